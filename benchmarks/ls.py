"""A fresh `vocl ls 'score_3>0.1' state=done model.num_slots=4` on 10 000 runs, against `import torch`.

Run from the repository root: `python benchmarks/ls.py`. The runs are those of `benchmarks/status.py`, each
with a whole config; `opens` and `peak_mb` as there. The first call reads all configs (`first_s`); from then
on they come from the user's cache, which lies in the temporary folder here. Both commands are new processes,
alternate, and the best time of each counts. `ls_s` is to stay at or below 3 s on two free cores, with at most
2 files opened for a run.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import status

from vocl.config.compose import composed
from vocl.rundir.results_root import ResultsRoot


def main() -> None:
    """Build, measure, print."""
    with tempfile.TemporaryDirectory() as place:
        root, tools = ResultsRoot(Path(place) / "results"), Path(place) / "bin"
        kinds = status.build(root)
        status.stand_ins(tools, kinds)
        config = composed(["model.num_slots=4"]).content
        root.run("whole").write_config(config)
        text = root.run("whole").config_path.read_text()
        for run in root.run_ids():
            root.run(run).config_path.write_text(text)
        environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "XDG_CACHE_HOME": place}
        words = ["ls", "score_3>0.1", "state=done", "model.num_slots=4", f"runtime.root={root}"]
        command = [sys.executable, "-m", "launch.cli", *words]
        first, board = status.seconds(command, environment)
        times: dict[str, list[float]] = {"ls": [], "torch": []}
        for _ in range(status.ROUNDS):
            times["ls"].append(status.seconds(command, environment)[0])
            times["torch"].append(status.seconds([sys.executable, "-c", "import torch"], environment)[0])
        opens, peak = status.opened(words, environment, root)
    print(board.splitlines()[-1])
    print(status.told(opens, kinds, peak))
    assert board.splitlines()[-1].startswith(f"{kinds.count('done')} of "), board.splitlines()[-1]
    print(f"first_s={first:.3f} ls_s={min(times['ls']):.3f} torch_s={min(times['torch']):.3f}")
    print(f"ratio={min(times['ls']) / min(times['torch']):.3f}")


if __name__ == "__main__":
    main()
