"""A run folder from elsewhere is data: looking at it calls nothing that it names, writes nowhere else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from running import run_folder, tiny

from vocl import run
from vocl.commands import verbs
from vocl.errors import UserError
from vocl.files import user_path
from vocl.nn.backbones import pretrained

VERBS: dict[str, Callable[[str], int]] = {
    "show": lambda folder: verbs.show([folder]),
    "eval": lambda folder: verbs.evaluate([folder, "eval.discovery.options.seed=7"]),
    "replay": lambda folder: verbs.replay([folder, "steps=0:1"]),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    config = tiny(tmp_path_factory.mktemp("results"))
    assert run.run(config) == 0
    return run_folder(config)


@pytest.fixture
def foreign(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a finished run, looked at from a working folder that is a git checkout."""
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    monkeypatch.chdir(checkout)
    return Path(shutil.copytree(finished, tmp_path / "foreign"))


def change(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    edit(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "target",
    [
        "vocl.rundir.git.call",
        "vocl.files.write_text",
        "vocl.tracking.mirror.Mirror",
        "subprocess.run",
        "os.system",
    ],
)
def test_no_function_that_a_config_names_is_called(
    verb: str, target: str, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sign = foreign.parent / "called"

    def edit(config: dict[str, Any]) -> None:
        config["dataset"]["source"] = {"_target_": target}
        config["runtime"]["data_root"] = f"--upload-pack=touch {sign};git-upload-pack"
        config["eval"]["discovery"]["split"] = "fetch"

    change(foreign, edit)
    before = tree(foreign.parent)
    assert VERBS[verb](str(foreign)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{foreign}/config.yaml: dataset.source._target_={target}: " in line
    assert tree(foreign.parent) == before


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("link", ["overlay.png", "lock", "eval", "checkpoints", "events/0009-start.json"])
def test_a_link_in_a_foreign_folder_is_refused(
    verb: str, link: str, foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = foreign.parent / "mine"
    mine.mkdir()
    place = foreign / link
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(mine)
    assert VERBS[verb](str(foreign)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{place}: is a link" in line
    assert not list(mine.iterdir())


def test_what_a_foreign_config_says_of_its_root_is_not_written_to(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = foreign.parent / "elsewhere"
    change(foreign, lambda config: config["runtime"].update(root=str(elsewhere)))
    outside = tree(foreign.parent) - {f"foreign/{name}" for name in tree(foreign)}
    for verb in VERBS.values():
        assert verb(str(foreign)) == 0
    after = tree(foreign.parent) - {f"foreign/{name}" for name in tree(foreign)}
    assert after == outside and not elsewhere.exists()


def test_no_weights_are_downloaded_to_where_a_foreign_config_says(
    foreign: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, asked = foreign.parent / "elsewhere", []
    backbone = {"_target_": "vocl.nn.backbone.TimmViT", "name": "vit_tiny_patch16_224.augreg_in21k"}
    backbone |= {"block": 1, "norm": False, "keys": False, "trainable": False, "drop_path": 0.0}

    def edit(config: dict[str, Any]) -> None:
        config["backbone"] = {**backbone, "resample": "dino"}
        config["runtime"]["weights_root"] = str(elsewhere)

    def fetch(name: str, weights_root: Path) -> Path:
        asked.append(weights_root)
        raise UserError("no network")

    change(foreign, edit)
    monkeypatch.setattr(pretrained, "fetch_weights", fetch)
    mine = ["runtime.weights_root=mine"]
    assert verbs.evaluate([str(foreign), "--untrained"]) == 2
    assert verbs.evaluate([str(foreign), "--untrained", *mine]) == 2
    assert verbs.replay([str(foreign), "steps=0:1"]) == 2
    assert verbs.replay([str(foreign), "steps=0:1", *mine]) == 2
    assert asked == [Path("weights"), Path("mine")] * 2


def test_what_it_says_of_itself_is_shown(foreign: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert VERBS["show"](str(foreign)) == 0
    assert user_path(capsys.readouterr().out.strip()) == foreign / "overlay.png"
