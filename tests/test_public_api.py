"""What `import vocl` gives a notebook."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from running import tiny

import vocl
from launch.cli import main
from vocl import run
from vocl.errors import UserError

TABLE = """
base: {experiment: slotcontrast/synthetic, debug: tiny}
rows: {plain: {loss: [feature_mse]}, contrast: {}}
seeds: [0]
metrics: [video_fg_ari]
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("api")
    assert run.run(tiny(folder)) == 0
    return folder


def test_the_version_is_the_one_that_is_installed(capsys) -> None:
    assert metadata.version("vocl") == vocl.__version__
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"vocl {vocl.__version__}\n"


def test_importing_it_imports_nothing_else() -> None:
    ours = "m.split('.')[0] in ('vocl', 'torch', 'launch')"
    code = f"import sys, vocl; print(sorted(m for m in sys.modules if {ours}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['vocl']"
    assert {"load", "runs", "table"} <= set(dir(vocl))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        vocl.lod  # noqa: B018


def test_runs_are_a_frame_of_states_scores_and_configs(root: Path) -> None:
    frame = vocl.runs(root=root)
    (line,) = frame.to_dict("records")
    assert frame.index.name == "run" and frame.index[0] in {path.name for path in (root / "runs").iterdir()}
    assert (line["state"], line["seed"], line["model.num_slots"]) == ("done", 0, 4)
    assert 0 <= line["video_mbo"] <= 1
    with pytest.raises(UserError):
        vocl.runs("no_such_table", root=root)


def test_a_table_is_a_frame_of_its_cells(root: Path, tmp_path: Path) -> None:
    (tmp_path / "conf" / "ablation").mkdir(parents=True)
    (tmp_path / "conf" / "ablation" / "two.yaml").write_text(TABLE)
    frame = vocl.table("two", f"project={tmp_path}", root=root)
    assert list(frame["row"]) == ["plain", "contrast"] and list(frame["wanted"]) == [1, 1]
    assert not list((root / "tables").glob("*"))


def test_a_run_loads(root: Path) -> None:
    (folder,) = (root / "runs").iterdir()
    assert vocl.load(folder.name, root=str(root)).checkpoint.step == tiny(root).train.steps
