"""Evaluations of a project are added under any results folder, whatever its name and the project's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from running import TINY, result, run_folder, tiny

from launch.cli import main as vocl
from vocl import run
from vocl.config.grammar import setting

NAMES = ("plain", "a b é", "a=b (1), it's")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_eval_and_fill_with_a_project_under_any_root(tmp_path: Path, ours: Path, monkeypatch, name) -> None:
    root, project = tmp_path / name / "results", tmp_path / name / "project"
    shutil.copytree(ours, project)
    (package,) = (path.parent for path in project.glob("*/__init__.py"))
    package.rename(
        package.with_name(f"odd_{NAMES.index(name)}_{package.name}")
    )  # its first place is on sys.path
    for path in (project / "conf").rglob("*.yaml"):
        path.write_text(path.read_text().replace(package.name, f"odd_{NAMES.index(name)}_{package.name}"))
    words = (setting("project", project), "train.steps=2")
    config = tiny(root, *words, "eval=[discovery]")
    assert run.run(config) == 0
    place = setting("runtime.root", root)
    monkeypatch.chdir(tmp_path)
    asked = ("eval=[area_probe]", "eval.area_probe.max_videos=2")
    assert vocl(["eval", run_folder(config).name, place, *asked]) == 0
    assert list(result(config)["evals"]) == ["discovery", "area_probe"]
    more = ("eval=[discovery,area_probe]", "eval.area_probe.max_videos=1")
    assert vocl(["fill", *TINY, *words, *more, place]) == 0
    assert len(result(config)["evals"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
