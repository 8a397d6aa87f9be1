"""`vocl rescore`: another protocol for masks that were kept, as `vocl eval` would have scored them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from launch.cli import main
from vocl.rundir.run_dir import RunDir

ASKED = [
    *("experiment=baselines/davis2016", "model=rectangles", "backbone=tiny_vit", "dataset=synthetic"),
    "dataset.size_px=[28,28]",
    "dataset.source.size_px=32",
    "dataset.source.num_frames=4",
    "dataset.source.num_validation=3",
    "dataset.source.num_train=2",
    "dataset.clip_frames=2",
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> RunDir:
    """A run of masks that do not depend on weights, kept."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("kept") / "results"
    words = [*ASKED, "eval=[discovery,objects]", f"runtime.root={root}", "runtime.keep_masks=true"]
    assert main(["train", *words]) == 0
    (folder,) = (root / "runs").iterdir()
    return RunDir(folder)


def rescore(run: RunDir, *words: str) -> int:
    return main(["rescore", run.id, *words, f"runtime.root={run.path.parents[1]}"])


@pytest.mark.parametrize("protocol", ["solv", "smtc", "interpreter"])
def test_it_gives_what_the_model_gives(scored, protocol, capsys, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr("vocl.assemble.make_model", None)  # no model is made
        assert rescore(scored, f"protocol={protocol}", "eval=discovery") == 0
    assert f"discovery:protocol={protocol}" in capsys.readouterr().out.replace("\n", "")
    entry = scored.result().evals[f"discovery:protocol={protocol}"]
    assert entry["protocol"] == protocol and entry["num_videos"] == 3
    report = json.loads((scored.evaluations / entry["eval_id"] / "report.json").read_text())
    assert report["masks_of"] == scored.result().evals["discovery"]["eval_id"]
    rows = json.loads((scored.path / entry["rows"]).read_text())
    words = ["eval=[discovery]", f"eval/protocol@eval.discovery.protocol={protocol}", "--again"]
    assert main(["eval", scored.id, *words, f"runtime.root={scored.path.parents[1]}"]) == 0
    again = scored.result().evals[f"discovery:protocol={protocol}"]
    assert again["eval_id"] == entry["eval_id"]
    assert again["metrics"] == pytest.approx(entry["metrics"], abs=1e-9)
    assert [r["video"] for r in json.loads((scored.path / again["rows"]).read_text())] == [
        r["video"] for r in rows
    ]


def test_all_that_was_kept_is_scored(scored):
    before = set(scored.result().evals)
    assert rescore(scored, "protocol=slotcurri", "protocol.overlap=paint") == 0
    new = set(scored.result().evals) - before
    assert {key.partition(":")[0] for key in new} == {"discovery", "objects"}
    assert {scored.result().evals[key]["protocol"] for key in new} == {"slotcontrast"}


def test_the_same_protocol_changes_nothing(scored):
    before = scored.result_path.read_bytes()
    assert rescore(scored, "protocol=vocl") == 0
    assert scored.result_path.read_bytes() == before


def test_mistakes_with_kept_masks(scored, tmp_path, capsys):
    cases = {
        (): "protocol: missing, give protocol=NAME of davis2017",
        ("protocol=solvv",): "choose from davis2017",
        ("protocol=randsfq",): "scores models that start from the boxes",
        ("protocol=videosaur_clips",): "give protocol.clip_frames=null, or use vocl eval",
        ("protocol=solv", "eval=probe"): "has kept no masks, choose from discovery, objects",
        ("protocol=solv", "evl=discovery"): "evl: unknown key",
    }
    for words, said in cases.items():
        assert rescore(scored, *words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error
    assert main(["rescore", "nobody", "protocol=solv", f"runtime.root={tmp_path}"]) == 2


def test_damaged_and_missing_masks_are_told(scored, capsys):
    folder = scored.evaluations / scored.result().evals["discovery"]["eval_id"] / "masks"
    one, two, _ = sorted(folder.iterdir())
    kept = {path: path.read_bytes() for path in (one, two)}
    for path, damage, said in (
        (one, b"PK nothing", "cannot be read as kept masks"),
        (two, None, "no masks of video"),
    ):
        path.unlink() if damage is None else path.write_bytes(damage)
        try:
            assert rescore(scored, "protocol=savi", "eval=discovery") == 1
            assert said in capsys.readouterr().err
        finally:
            path.write_bytes(kept[path])


def test_a_run_that_kept_none_says_how_to(scored, tmp_path: Path, capsys):
    root = tmp_path / "results"
    assert main(["train", *ASKED, "eval=[discovery]", f"runtime.root={root}"]) == 0
    (folder,) = (root / "runs").iterdir()
    capsys.readouterr()
    assert main(["rescore", folder.name, "protocol=solv", f"runtime.root={root}"]) == 2
    assert f"vocl eval {folder.name} runtime.keep_masks=true" in capsys.readouterr().err
