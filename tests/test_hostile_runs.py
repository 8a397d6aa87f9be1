"""A run folder that somebody made to do harm: verbs that read it end soon, and give nothing away."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.cli import main

pytestmark = pytest.mark.usefixtures("no_hanging")

RUN = "aaaaaaaaaa"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root" / "runs" / RUN).mkdir(parents=True)
    return tmp_path / "root"


def nested(of: str, levels: int = 9) -> str:
    """Aliases that stand for ten to the `levels` of what `of` says with {}."""
    lines = ["a0: &a0 " + of.format(", ".join(["{x: 1}"] * 10))]
    lines += [f"a{n}: &a{n} " + of.format(", ".join([f"*a{n - 1}"] * 10)) for n in range(1, levels)]
    return "\n".join([*lines, f"loss: *a{levels - 1}", "project: null", "seed: 0"])


BOMBS = {
    "lists": nested("[{}]"),
    "merges": nested("{{<<: [{}]}}"),
    "itself": "loss: &a [*a]\nproject: null\nseed: 0\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_config_that_stands_for_billions_of_values_is_one_line(bomb: str, root: Path, capsys) -> None:
    folder = root / "runs" / RUN
    (folder / "config.yaml").write_text(BOMBS[bomb])
    place = f"runtime.root={root}"
    for verb in (["show", RUN], ["eval", RUN], ["replay", RUN, "steps=0:1"], ["diff", RUN, RUN]):
        assert main([*verb, place]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{folder}/config.yaml:" in line
    assert main(["ls", place]) == 0
    assert main(["pull", str(root), f"runtime.root={root.parent}/mine"]) == 0
    assert "1 not pulled" in capsys.readouterr().out
