"""Damaged configs and ablations: `vocl plan` says what it said, or one line that names the mistake."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import yaml
from alarm import ends_soon
from mutations import HANG_S, in_bytes, in_lines, numbers

from launch.cli import main

ABLATION = """\
title: Slots and rates
base: {train.steps: 7}
columns: {small: {dataset.size_px: [32, 32]}}
rows:
  few: {model.num_slots: 3}
  many: {optim.lr: 0.001}
seeds: [0]
metrics: [video_mbo]
table: {baseline: few, digits: 2}
"""
FILES = {
    "experiment/mine": """\
# @package _global_
defaults:
  - override /loss: [feature_mse, slot_contrast]
  - override /dataset: synthetic
train: {steps: 12, batch: 8}
optim:
  lr: 0.001
  schedule: {warmup_steps: 2}
""",
    "loss/mine": """\
# @package loss.mine
_target_: vocl.losses.reconstruction.FeatureMSE
weight: 0.5
level: null
""",
    "ablation/mine": ABLATION,
}
SELECTED = {
    "experiment/mine": ["experiment=mine"],
    "loss/mine": ["loss=[feature_mse,mine]"],
    "ablation/mine": ["mine"],
}
COUNTS = {"experiment/mine": 30, "loss/mine": 20, "ablation/mine": 50}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "project" / "conf" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "project"


def _same(damaged: bytes, whole: str) -> bool:
    """Whether a file still says what it said, as any reader of YAML sees it."""
    try:
        text = damaged.decode()  # what follows `# @package` is no comment to Hydra
        return text.split("\n")[0] == whole.split("\n")[0] and yaml.safe_load(text) == yaml.safe_load(whole)
    except (ValueError, yaml.YAMLError, RecursionError, TypeError):
        return False


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_or_says_the_same(project: Path, tmp_path: Path, name, capsys) -> None:
    path, places = project / "conf" / f"{name}.yaml", [f"project={project}", f"runtime.root={tmp_path}/r"]
    ask = functools.partial(main, ["plan", *SELECTED[name], *places])
    assert ask() == 0, capsys.readouterr().err
    expected = capsys.readouterr().out
    for seed in numbers(COUNTS[name]):
        whole = FILES[name]
        damaged = (
            in_lines(whole, seed) if seed % 3 or name == "ablation/mine" else in_bytes(whole.encode(), seed)
        )
        path.write_bytes(damaged)
        told = f"{name}, seed {seed}:\n{damaged.decode(errors='backslashreplace')}"
        with ends_soon(told, HANG_S):
            try:
                code = ask()
            except BaseException as raised:
                raise AssertionError(f"{told}: {raised!r}") from raised
        out, error = capsys.readouterr()
        assert code in (0, 2), told
        assert "Traceback" not in error, told
        assert code == 0 or (error.count("\n") == 1 and not out), f"{told}: {error}"
        if code == 0 and _same(damaged, whole):
            assert out == expected, told
    assert not (tmp_path / "r").exists()
