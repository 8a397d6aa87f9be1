"""The door of evaluations: any number of them, on any dataset, each with failures of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from running import final, on_ranks, result, run_folder, tiny

from launch.cli import main as vocl
from launch.commands import fill
from launch.run_states.states import RunState
from launch.selection.plan import Spec
from launch.tables import scores
from vocl import run
from vocl.commands import verbs
from vocl.config import folders, identity
from vocl.config.check import check
from vocl.config.compose import compose, composed
from vocl.errors import UserError
from vocl.evaluate import score_table
from vocl.evaluate.code import code_digest
from vocl.interface import Subject
from vocl.loading import initial_model
from vocl.run import make_trainer
from vocl.rundir.of_config import run_dir_of
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir
from vocl.stop import StopFlag

SMALL = ("train.steps=2", "eval.area_probe.max_videos=2")


def again(config, *arguments):
    """`vocl eval` on the run of `config`."""
    root = f"runtime.root={config.runtime.root}"
    return verbs.evaluate([run_folder(config).name, root, *arguments])


def entries(config):
    return result(config)["evals"]


@pytest.fixture(scope="module")
def probed(ours: Path, tmp_path_factory):
    """A run with two evaluations of its own, under a root that is not the usual one."""
    root = tmp_path_factory.mktemp("probed")
    config = tiny(root, f"project={ours}", "eval=[discovery,area_probe]", *SMALL)
    assert run.run(config) == 0
    return config


# --------------------------------------------------------------------------------- several evaluations


def test_a_probe_beside_discovery(probed, capsys):
    found = result(probed)
    assert list(found["evals"]) == ["discovery", "area_probe"]
    assert found["metrics"] == found["evals"]["discovery"]["metrics"]
    probe = found["evals"]["area_probe"]
    assert probe["num_videos"] == 2 and probe["protocol"] == "area"
    assert probe["metrics"]["mse"] >= 0 and probe["metrics"]["r2"] <= 1
    assert probe["measures"]["mse"] == {"higher_is_better": False, "scale": 1, "digits": 4}
    rows = json.loads((run_folder(probed) / probe["rows"]).read_text())
    assert [row["video"] for row in rows] == ["validation/00000", "validation/00001"]
    score_table.show(run_dir_of(probed))
    lines = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if "│" in line}
    assert {"mse ↓", "r2", "video_fg_ari", "num_without_truth"} <= lines.keys()


def test_a_constant_slot_predicts_the_mean_of_the_training_split(probed):
    evaluation = run.assemble.make_evaluation(probed, "area_probe")
    read = evaluation.read

    def mute(subject, split):
        known = read(subject, split).items()
        return {name: (torch.ones(len(areas), 1).double(), areas) for name, (_, areas) in known}

    evaluation.read = mute
    subject = Subject(
        initial_model(probed),
        run.assemble.make_dataset(probed),
        lambda split: run.assemble.make_source(probed, split),
        torch.device("cpu"),
    )
    report = evaluation.run(subject)
    train, held_out = (
        torch.cat([areas for _, areas in read(subject, split).values()]) for split in ("train", "validation")
    )
    assert report.metrics["mse"] == pytest.approx(float((held_out - train.mean()).square().mean()))
    assert report.metrics["r2"] <= 1e-9


def test_scores_can_be_repeated(probed):
    before = entries(probed)
    assert again(probed, "--again") == 0
    assert entries(probed) == before


def test_a_metric_of_ones_own(ours, tmp_path):
    config = tiny(tmp_path, f"project={ours}", "eval=[discovery,corloc]", "train.steps=2")
    assert run.run(config) == 0
    ours_too, plain = entries(config)["corloc"]["metrics"], entries(config)["discovery"]["metrics"]
    assert 0 <= ours_too.pop("image_corloc") <= 1 and ours_too == plain


# ------------------------------------------------------------------------------------- another dataset


def test_another_dataset_has_a_record_of_its_own(probed, capsys):
    before = entries(probed)
    arguments = [
        "eval=[discovery]",
        "dataset=synthetic",
        "dataset.source.level=hard",
        "dataset.source.size_px=16",
    ]
    arguments += ["dataset.size_px=[16,16]", "dataset.source.num_frames=4", "dataset.source.num_validation=3"]
    arguments += ["dataset.name=harder"]
    assert again(probed, *arguments) == 0
    after = entries(probed)
    assert {name: after[name] for name in before} == before
    entry = after["discovery:dataset=harder"]
    assert entry["num_videos"] == 3 and entry["metrics"] != before["discovery"]["metrics"]
    report = run_dir_of(probed).report(entry["eval_id"])
    assert report["dataset"] == report["eval"]["dataset"] and report["dataset"]["source"]["level"] == "hard"
    capsys.readouterr()
    assert again(probed, "eval=[discovery]", "dataset.source.level=medium") == 0
    assert 'discovery:level="medium"' in entries(probed)
    shutil.rmtree(run_folder(probed) / "eval" / entry["eval_id"])


def test_an_evaluation_with_a_dataset_in_its_file(ours, tmp_path):
    text = """# @package eval.harder
defaults:
  - discovery@_here_
  - /dataset@dataset: synthetic
  - _self_
dataset:
  size_px: [16, 16]
  source: {level: hard, size_px: 16, num_frames: 4, num_validation: 3}
"""
    (ours / "conf" / "eval" / "harder.yaml").write_text(text)
    config = tiny(tmp_path, f"project={ours}", "eval=[discovery,harder]", "train.steps=2")
    assert config.eval["harder"].dataset.source["level"] == "hard"
    assert config.run_id == tiny(tmp_path, "train.steps=2").run_id
    assert run.run(config) == 0
    assert [entry["num_videos"] for entry in entries(config).values()] == [2, 3]
    assert composed([f"project={ours}", "eval=[harder]", "debug=tiny"]).eval["harder"].dataset is None


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["dataset=synthetic"], "size_px=[48, 48]: what this evaluation asks for"),
        (["dataset.size_px=[16]"], "expected [height, width]"),
        (["dataset.normalise=half"], "normalise=half: the model is trained on frames normalised otherwise"),
        (["dataset=nowhere"], "dataset=nowhere: no such choice, choose from davis2016"),
        (["dataset.source.lever=hard"], "source.lever: unknown key"),
        (["dataset=files", "dataset.name=absent", "dataset.size_px=[16,16]"], "absent"),
        (["train.steps=9"], "choose from eval, dataset, runtime"),
        (["eval=[dynamics]", "eval.dynamics.burn_in=100"], "burn_in=100, horizon=None ask for 101"),
        (["--twice"], "--twice"),
    ],
)
def test_what_is_refused(probed, overrides, told, capsys):
    before = entries(probed)
    assert again(probed, *overrides) == 2
    out, err = capsys.readouterr()
    assert told in err and len(err.splitlines()) == 1 and not out
    assert entries(probed) == before


def test_frames_of_another_size_where_model_and_backbone_take_them(ours, tmp_path):
    sizes = ["+dataset@eval.dense.dataset=synthetic", "eval.dense.dataset.size_px=[28,56]"]
    backbone = ["backbone=tiny_vit", "backbone.patch_px=14", "dataset.size_px=[28,28]"]
    config = tiny(tmp_path, f"project={ours}", "eval=[dense]", *backbone, *sizes, "train.steps=1")
    assert run.run(config) == 0
    assert entries(config)["dense"]["metrics"] == {"patches": 8}
    with pytest.raises(UserError, match=r"eval\.dense\.dataset\.size_px=\[28, 56\]: what this evaluation"):
        tiny(tmp_path, f"project={ours}", "eval=[dense]", *sizes)  # filters know the places of their patches
    sizes[1] = "eval.dense.dataset.size_px=[30,56]"
    wrong = tiny(tmp_path, f"project={ours}", "eval=[dense]", *backbone, *sizes)
    with pytest.raises(UserError, match=r"eval\.dense\.dataset\.size_px=\[30, 56\]: not a multiple"):
        run.run(wrong)
    assert not run_folder(wrong).exists()


def test_what_a_table_lacks_is_filled_with_all_of_its_settings(probed, ours, tmp_path):
    asked = ["+dataset@eval.discovery.dataset=synthetic", "eval.discovery.dataset.name='a: b, \\'c\\' {d}'"]
    asked += ["eval.discovery.dataset.size_px=[16,16]", "eval.discovery.dataset.source.size_px=16"]
    asked += ["eval.discovery.dataset.source.num_validation=3", "eval.discovery.window=3"]
    config = tiny(Path(probed.runtime.root), f"project={ours}", "eval=[discovery,corloc]", *asked, *SMALL[:1])
    spec = Spec(config.run_id, "", config, "", "", 0)
    folder = run_folder(probed)
    assert run_folder(config) == folder
    lacking = fill.missing_evaluations(RunDir(folder), spec)
    assert list(lacking) == ["discovery", "corloc"]
    for overrides in lacking.values():
        assert again(probed, *overrides) == 0
    assert fill.missing_evaluations(RunDir(folder), spec) == {}
    found = entries(probed)
    assert found["corloc"]["num_videos"] == 2
    (other,) = [key for key in found if key.startswith("discovery:dataset=a: b")]
    assert found[other]["num_videos"] == 3
    root = ResultsRoot(Path(probed.runtime.root))
    (record,) = scores.read([spec], root, {spec.id: RunState("done")}, "same")
    assert record.score("image_corloc").value == found["corloc"]["metrics"]["image_corloc"]
    assert record.score("video_mbo").value == found[other]["metrics"]["video_mbo"]


# ------------------------------------------------------------------------------------------------ plan


def test_plan_proves_an_evaluation(ours):
    with pytest.raises(
        UserError, match=r"eval\.area_probe: needs slots, which model vocl\.models\.solv\.SOLV"
    ):
        composed([f"project={ours}", "experiment=solv/synthetic", "eval=[area_probe]"])
    target = "+eval.x={_target_:vocl.losses.reconstruction.FeatureMSE,dataset:null}"
    with pytest.raises(UserError, match=r"eval\.x\._target_=.*: is not a Evaluation"):
        composed([target])
    with pytest.raises(UserError, match=r"eval\.area_probe\.dataset: missing"):
        config = compose([f"project={ours}", "eval=[area_probe]"])
        del config["eval"]["area_probe"]["dataset"]
        check(config)


def test_a_split_that_is_not_there_is_told_before_the_training(ours, tmp_path):
    config = tiny(tmp_path, f"project={ours}", "eval=[area_probe]", "eval.area_probe.train_split=nowhere")
    with pytest.raises(UserError, match="nowhere"):
        run.run(config)
    assert not run_folder(config).exists()


def test_ids_of_evaluations_are_those_of_before():
    config = composed([])
    parts = {"run": "0" * 10, "checkpoint": "a" * 8, "eval": config.eval["discovery"].content, "dataset": {}}
    assert identity.evaluation_id(parts) == "d95b90eec8"


def test_what_an_earlier_version_stored_is_read(probed):
    folder, entry = run_folder(probed), entries(probed)["discovery"]
    path = folder / "eval" / entry["eval_id"] / "report.json"
    before = path.read_text()
    stored = json.loads(before)
    del stored["eval"]["dataset"], stored["eval"]["options"]["masks"], stored["code"], stored["measures"]
    path.write_text(json.dumps(stored))
    try:
        assert run_dir_of(probed).report(entry["eval_id"])["eval"] == probed.eval["discovery"].content
        assert again(probed) == 0
    finally:
        path.write_text(before)


# -------------------------------------------------------------------------------------------- failures


@pytest.fixture
def troubled(ours, tmp_path):
    """A config with an evaluation that goes wrong as `signs`/trouble says, and that file."""
    signs = tmp_path / "signs"
    signs.mkdir()
    settings = [f"project={ours}", "eval=[trouble,discovery]", f"eval.trouble.signs={signs}", "train.steps=2"]
    return tiny(tmp_path / "results", *settings), signs / "trouble"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("mistake", "the annotation of video 3 is empty"),
        ("crash", "KeyError: 'absent'"),
        ("exit", "SystemExit: no such option"),
        ("dict", "its run() returned dict, not vocl.interface.Report"),
        ("word", "its score 'score' is str, not a number"),
        ("several", "its score 'score' is Tensor, not a number"),
        ("other", "its class names the scores score, which its report lacks"),
        ("measure", "its measure of 'score' is bool, not vocl.interface.Measure"),
        ("rows", "its rows are not a list with a dict for each video"),
        ("nameless", "its protocol is NoneType, not a name"),
        ("misspelt", "its measures name 'sore', which is none of its scores score"),
        ("train", "RuntimeError: element 0 of tensors does not require grad"),
    ],
)
def test_a_failing_evaluation_fails_neither_the_training_nor_the_others(troubled, way, told, capsys):
    config, sign = troubled
    sign.write_text(way)
    assert run.run(config) == 1
    folder, found = run_folder(config), result(config)
    assert final(config)["step"] == 2 and list(found["evals"]) == ["discovery"] and found["metrics"] == {}
    assert found["failed"]["trouble"].startswith(told)
    (record,) = folder.glob("eval/*/failed.json")
    assert "Traceback" in json.loads(record.read_text())["traceback"]
    assert f"eval trouble failed: {told}" in capsys.readouterr().err
    assert sorted(p.name for p in (folder / "events").iterdir()) == ["0001-done.json", "0001-start.json"]

    assert run.run(config) == 1  # nothing is trained or scored again
    assert "to run it again: vocl eval" in capsys.readouterr().err
    vocl(["status", folder.name, f"runtime.root={config.runtime.root}"])
    assert "done" in (out := capsys.readouterr().out) and "eval trouble failed" in out
    assert again(config) == 1
    assert f"failed: eval.trouble: {told}" in capsys.readouterr().err
    sign.unlink()
    assert again(config) == 0
    mended = result(config)
    assert list(mended["evals"]) == ["trouble", "discovery"] and "failed" not in mended
    assert mended["metrics"] == {"score": 0.25} and not record.exists()
    assert run.run(config) == 0


def test_a_rank_that_fails_alone_leaves_no_other_waiting(troubled, tmp_path):
    config, sign = troubled
    sign.write_text("one rank")
    log = tmp_path / "log"
    assert on_ranks(2, lambda rank: run.run(config), log) == [1, 1], log.read_text()
    found = result(config)
    assert found["failed"] == {"trouble": "ArithmeticError: of this rank alone"}
    assert list(found["evals"]) == ["discovery"]


@pytest.mark.parametrize("way", ["undefined", "diverged", "huge"])
def test_an_undefined_score_and_the_mode_of_the_model(troubled, way):
    config, sign = troubled
    sign.write_text(way)
    assert run.run(config) == 0
    entry = entries(config)["trouble"]
    assert entry["metrics"] == {"score": None}
    assert json.loads((run_folder(config) / entry["rows"]).read_text()) == [{"video": "v", "seen": False}]


def test_what_failed_and_is_not_the_runs_own_is_told_and_not_kept(probed, ours, tmp_path, capsys):
    (tmp_path / "trouble").write_text("mistake")
    assert again(probed, "eval=[trouble]", f"eval.trouble.signs={tmp_path}") == 1
    assert "failed: eval.trouble: the annotation of video 3 is empty" in capsys.readouterr().err
    assert "failed" not in result(probed)


# ------------------------------------------------------------------------------------- code and control


def test_code_is_that_of_the_evaluation_and_its_parts():
    allowed = folders.packages(None)
    plain, wider = (
        composed([f"eval=[{name}]"]).eval[name].content for name in ("discovery", "first_frame_objects")
    )
    found = [code_digest(plain, allowed), code_digest(wider, allowed)]
    assert len(set(found)) == 2
    assert (
        code_digest(plain | {"window": 3, "dataset": {"_target_": "vocl.nn.backbones.cnn.CNN"}}, allowed)
        == found[0]
    )


def test_a_bases_and_a_helpers_code_count_and_the_models_do_not(tmp_path):
    package = tmp_path / "helped"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "base.py").write_text(
        "from . import head\nfrom vocl.models import recurrent\nclass Base: ...\n"
    )
    (package / "head.py").write_text("SIZE = 1\n")
    (package / "probe.py").write_text("from helped.base import Base\nclass Probe(Base): ...\n")
    (package / "other.py").write_text("")
    allowed = {**folders.packages(None), "helped": package}
    seen = [code_digest({"_target_": "helped.probe.Probe"}, allowed)]
    for name, text in (("other.py", "1\n"), ("head.py", "SIZE = 2\n"), ("base.py", "class Base: ...\n")):
        (package / name).write_text(text)
        seen.append(code_digest({"_target_": "helped.probe.Probe"}, allowed))
    assert seen[0] == seen[1] and len(set(seen)) == 3


def test_changed_code_is_said_and_scored_on_demand(troubled, ours, capsys):
    config, _ = troubled
    assert run.run(config) == 0
    (file,) = ours.glob("*/trouble.py")
    before = file.read_text()
    try:
        file.write_text(before.replace("SCORE = 0.25", "SCORE = 0.75"))
        capsys.readouterr()
        assert again(config) == 0
        err = capsys.readouterr().err
        assert "note: eval.trouble: these scores are by other code than today's" in err
        assert "discovery" not in err
        assert entries(config)["trouble"]["metrics"] == {"score": 0.25}
        assert again(config, "eval=[trouble]", "--again") == 0
        assert again(config) == 0
        assert "other code" not in capsys.readouterr().err
    finally:
        file.write_text(before)


def test_the_untrained_model_as_a_control(probed):
    assert again(probed, "eval=[area_probe]", "--untrained") == 0
    found = entries(probed)
    assert found["area_probe:untrained"]["eval_id"] != found["area_probe"]["eval_id"]
    assert "area_probe" not in run_dir_of(probed).reports({"x": found["area_probe:untrained"]})
    trainer = make_trainer(
        probed,
        RunDir(run_folder(probed)),
        torch.device("cpu"),
        StopFlag(),
        fresh=True,
        silent=True,
    )
    own = initial_model(probed).state_dict()
    assert own.keys() == trainer.model.state_dict().keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in trainer.model.state_dict().items())
