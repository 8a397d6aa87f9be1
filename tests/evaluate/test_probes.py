"""Probes: a training is seen while it goes on, and goes on as if nobody looked."""

from __future__ import annotations

import itertools
import json
import re
import signal
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from running import TINY, at_step, final, on_ranks, result, rooted, run_folder, same, send, tiny

from launch.cli import main as vocl
from launch.run_states.recent import RecentReports
from vocl import run, train
from vocl.commands import verbs
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.evaluate.probes import prober
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.checkpoint_files import CheckpointFile
from vocl.rundir.records import Records
from vocl.rundir.run_dir import RunDir
from vocl.tracking.mirror_process import Shown

ON = ("runtime.probe_every=4", "runtime.probe_videos=2", "runtime.probe_best=true")
FG_ARI = "probe/discovery/video_fg_ari"

SCRIPTED = '''"""Gives the scores that a file lists, one after the other; leaves generators somewhere else."""

import random
from pathlib import Path

import numpy as np
import torch

from vocl.interface import Evaluation, Measure, Report, Subject


class Scripted(Evaluation):
    """One score, better where it is `higher`; the word "fail" among the scores is a failure."""

    def __init__(self, *, split: str, script: str, higher: bool) -> None:
        self.split, self.script, self.higher = split, Path(script), higher

    def run(self, subject: Subject) -> Report:
        random.random(), np.random.rand(), torch.rand(3)
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        subject.model.train()
        first, *rest = self.script.read_text().split() or ["0"]
        self.script.write_text(" ".join(rest))
        if first == "fail":
            raise ArithmeticError("as it was told")
        source = subject.source(self.split)
        rows = [{"video": source[i].name} for i in range(len(source))]
        return Report("none", rows, {"score": float(first)}, {"score": Measure(self.higher)})
'''


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder with the evaluation `scripted`; its package stays on sys.path, so has its own name."""
    folder, package = tmp_path_factory.mktemp("project"), f"theirs_{uuid.uuid4().hex}"
    (folder / package).mkdir()
    (folder / package / "__init__.py").touch()
    (folder / package / "scripted.py").write_text(SCRIPTED)
    (folder / "conf" / "eval").mkdir(parents=True)
    node = {"_target_": f"{package}.scripted.Scripted", "dataset": None, "split": "validation"}
    node |= {"script": "/nowhere", "higher": True}
    (folder / "conf" / "eval" / "scripted.yaml").write_text(f"# @package eval.scripted\n{yaml.dump(node)}")
    return folder


def scripted(theirs: Path, root: Path, scores: str, *more: str) -> Any:
    """The config of a run whose probes give `scores`."""
    script = root / "script"
    script.write_text(scores)
    own = (f"project={theirs}", "eval=[scripted]", f"eval.scripted.script={script}")
    return tiny(root, *own, *ON, "runtime.probe_every=2", *more)


def lines(config: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder(config) / "metrics.jsonl").read_text().splitlines()]


def probes(config: Any) -> dict[int, float]:
    """{steps done: the score of the probe}."""
    return {line["step"]: line[FG_ARI] for line in lines(config) if FG_ARI in line}


def trained_alike(one: Any, other: Any) -> None:
    """Asserts that two runs have the same weights, reports, results and steps of checkpoints, bit for bit."""
    same(final(one), final(other))
    kinds = ("loss", "grad_norm", "lr", "slots_used", "mask_entropy")
    reports = [[[e["step"], *map(e.get, kinds)] for e in lines(c) if "loss" in e] for c in (one, other)]
    assert reports[0] == reports[1]
    assert result(one)["metrics"] == result(other)["metrics"]
    assert [file.step for file in files(one)] == [file.step for file in files(other)]


def files(config: Any) -> list[CheckpointFile]:
    return RunDir(run_folder(config)).checkpoint_files()


# -------------------------------------------------------------------- nothing of the training changes


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run that nobody probes."""
    config = tiny(tmp_path_factory.mktemp("plain"))
    assert run.run(config) == 0
    return config


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same run with probes, as the command trains it."""
    root = tmp_path_factory.mktemp("watched")
    assert train.main([*TINY, *ON, f"runtime.root={root}"]) == 0
    return tiny(root, *ON)


def test_a_run_with_probes_is_the_run_without(plain: Any, watched: Any) -> None:
    assert plain.run_id == watched.run_id
    trained_alike(plain, watched)
    assert [file.digest for file in files(plain)] == [file.digest for file in files(watched)]
    assert list(probes(watched)) == [4, 8] and probes(plain) == {}  # at the end all is scored anyway
    log = (run_folder(watched) / "log.txt").read_text()
    assert "every 4 steps eval.discovery is asked on up to 2 videos of split dev" in log
    assert len(re.findall(r"step [48]: discovery/video_fg_ari \S+ on 2 videos of split dev", log)) == 2


def test_an_evaluation_that_disturbs_what_it_can_disturbs_nothing(
    theirs: Path, tmp_path: Path, plain: Any
) -> None:
    config = scripted(theirs, tmp_path, "0.1 0.2 fail 0.4 0.5 0.6")
    assert run.run(config) == 0
    same(final(config), final(plain))


METHODS = ("slotcurri", "smtc", "interpreter", "solv", "videosaur")


@pytest.mark.parametrize("name", [*(f"{method}/synthetic" for method in METHODS), "savi/synthetic_boxes"])
def test_stages_teachers_and_boxes_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With a probe after every step, and a stop."""
    own = (f"experiment={name}", "debug=tiny", "runtime.threads=1", "runtime.progress=false")
    own = (*own, "runtime.device=cpu", "train.steps=8")
    one = rooted(tmp_path / "one", composed(own))
    two = rooted(tmp_path / "two", composed([*own, "runtime.probe_every=1", "runtime.probe_videos=1"]))
    assert run.run(one) == 0
    at_step(monkeypatch, 4, send(signal.SIGTERM))
    assert run.run(two) == 75 and run.run(two) == 0
    trained_alike(one, two)
    steps = [line["step"] for line in lines(two) if "probe_s" in line]
    assert steps == list(range(1, 8)), (run_folder(two) / "log.txt").read_text()


@pytest.mark.parametrize("step", [3, 5])
def test_a_run_that_stops_and_goes_on_has_each_probe_once(
    tmp_path: Path, plain: Any, watched: Any, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    config = tiny(tmp_path, *ON)
    at_step(monkeypatch, step, send(signal.SIGTERM))
    assert run.run(config) == 75
    assert run.run(config) == 0
    trained_alike(plain, config)
    assert probes(config) == probes(watched)


def test_a_stop_within_a_probe_is_heard_at_once_and_the_probe_done_later(
    tmp_path: Path, plain: Any, watched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    guarded = prober.run_guarded

    def signalled(*words: Any) -> Any:
        if not asked:
            asked.append(1)
            send(signal.SIGTERM)()
        return guarded(*words)

    monkeypatch.setattr(prober, "run_guarded", signalled)
    config = tiny(tmp_path, *ON)
    assert run.run(config) == 75
    assert final(config)["step"] == 4 and probes(config) == {}  # checkpoint_every is 5
    assert run.run(config) == 0
    trained_alike(plain, config)
    assert probes(config) == probes(watched)


def test_two_ranks_probe_together(tmp_path: Path) -> None:
    one, two = tiny(tmp_path / "one"), tiny(tmp_path / "two", *ON)
    for config in (one, two):
        log = tmp_path / "log"
        assert on_ranks(2, lambda _, config=config: run.run(config), log) == [0, 0], log.read_text()
    trained_alike(one, two)
    assert list(probes(two)) == [4, 8]


def test_the_time_of_a_probe_is_not_the_trainings(tmp_path: Path) -> None:
    config = tiny(tmp_path, *ON)
    assert run.run(config, sketch=lambda *_: time.sleep(2.0)) == 0
    pairs = itertools.pairwise(lines(config))
    probed, after = next((line, following) for line, following in pairs if FG_ARI in line)
    assert probed["probe_s"] >= 2.0
    assert 1 / after["steps_per_s"] < probed["probe_s"]


# ------------------------------------------------------------------------------ a probe fails alone


def test_a_probe_that_fails_is_a_line_in_the_log(theirs: Path, tmp_path: Path) -> None:
    config = scripted(theirs, tmp_path, "0.5 fail 0.25")
    assert run.run(config) == 0
    scores = {line["step"]: line["probe/scripted/score"] for line in lines(config) if "probe_s" in line}
    assert scores == {2: 0.5, 6: 0.25, 8: 0.0, 10: 0.0}
    log = (run_folder(config) / "log.txt").read_text()
    why = "no probe at step 4: eval.scripted: ArithmeticError: as it was told; the training is not affected"
    assert f"WARNING {why}" in log


def test_what_cannot_be_drawn_costs_the_picture_alone(tmp_path: Path) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no font")

    config = tiny(tmp_path, *ON)
    assert run.run(config, sketch=fails) == 0
    assert list(probes(config)) == [4, 8]
    log = (run_folder(config) / "log.txt").read_text()
    assert "no picture of the probe at step 4: RuntimeError: no font" in log


def test_a_dataset_without_dev_videos_is_probed_where_it_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = prober.assemble.make_source

    def without_dev(config: Any, split: str, evaluation: str | None = None) -> Any:
        if split == "dev":
            raise UserError("no such split")
        return make(config, split, evaluation)

    monkeypatch.setattr(prober.assemble, "make_source", without_dev)
    config = tiny(tmp_path, *ON)
    assert run.run(config) == 0
    log = (run_folder(config) / "log.txt").read_text()
    assert "up to 2 videos of split validation" in log
    assert "there is no split dev, so the best checkpoint is chosen on videos that eval.discovery" in log


def test_videos_that_are_trained_on_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = prober.assemble.make_source

    def cut_from_train(config: Any, split: str, evaluation: str | None = None) -> Any:
        return make(config, "train" if split == "dev" else split, evaluation)

    monkeypatch.setattr(prober.assemble, "make_source", cut_from_train)
    config = tiny(tmp_path, *ON)
    assert run.run(config) == 0
    assert "up to 2 videos of split dev, which are trained on" in (run_folder(config) / "log.txt").read_text()


def test_a_count_is_no_score_to_choose_the_best_by(tmp_path: Path) -> None:
    config = tiny(tmp_path, *ON, "runtime.probe_metric=num_without_truth")
    assert run.run(config) == 0
    assert Checkpoints(run_folder(config) / "checkpoints").best() is None
    log = (run_folder(config) / "log.txt").read_text()
    assert "of discovery/num_without_truth neither more nor less is better; the training" in log


# ----------------------------------------------------------------------------------- the best of them


@pytest.mark.parametrize(("higher", "step"), [(True, 6), (False, 4)])
def test_the_checkpoint_of_the_best_probe_stays(
    theirs: Path, tmp_path: Path, higher: bool, step: int
) -> None:
    config = scripted(theirs, tmp_path, "0.5 0.1 0.9 0.3 nan 0.7", f"eval.scripted.higher={higher}")
    assert run.run(config) == 0
    place = RunDir(run_folder(config))
    assert [file.step for file in place.checkpoint_files()] == [12, 10]  # it is none of these
    checkpoints = Checkpoints(place.checkpoints)
    found = checkpoints.best()
    assert found is not None and found[0].step == found[1]["step"] == step
    assert len(list(place.checkpoints.glob("best-*.pt"))) == 1
    newest = checkpoints.newest()
    assert newest is not None and newest[0].step == 12


def test_the_best_of_an_earlier_attempt_counts(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = scripted(theirs, tmp_path, "0.2 0.8 0.7 0.6 0.5 0.4")
    at_step(monkeypatch, 6, send(signal.SIGTERM))
    assert run.run(config) == 75 and run.run(config) == 0
    found = Checkpoints(run_folder(config) / "checkpoints").best()
    assert found is not None and found[0].step == 4


def test_the_best_is_scored_beside_the_last(watched: Any, plain: Any, capsys) -> None:
    root = f"runtime.root={watched.runtime.root}"
    assert verbs.evaluate([watched.run_id, root, "--best"]) == 0
    evals = result(watched)["evals"]
    assert list(evals) == ["discovery", "discovery:best"]
    place = RunDir(run_folder(watched))
    assert list(place.reports(place.result().evals)) == ["discovery"]  # no table takes it for the run's
    capsys.readouterr()
    assert verbs.evaluate([watched.run_id, root, "--best", "--untrained"]) == 2
    none = [plain.run_id, f"runtime.root={plain.runtime.root}", "--best"]
    assert verbs.evaluate(none) == 2
    assert "kept no checkpoint of a best probe; runtime.probe_best=true keeps it" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ where it is seen


def test_boards_show_the_newest_probe_of_a_run_that_is_not_done(
    tmp_path: Path, watched: Any, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    config = tiny(tmp_path, *ON)
    at_step(monkeypatch, 9, send(signal.SIGTERM))
    assert run.run(config) == 75
    word = f"video_fg_ari {probes(watched)[8]:.3f} at 8"
    for verb in ("status", "ls"):
        capsys.readouterr()
        assert vocl([verb, f"runtime.root={tmp_path}"]) == 0
        assert word in capsys.readouterr().out
        assert vocl([verb, f"runtime.root={watched.runtime.root}"]) == 0  # it is done: it has a result
        assert " at 8" not in capsys.readouterr().out


def test_the_line_of_a_probe_hides_no_report_from_a_board(watched: Any) -> None:
    path = run_folder(watched) / "metrics.jsonl"
    kept = path.read_text()
    try:
        cut = kept.splitlines(keepends=True)
        last = next(i for i, line in enumerate(cut) if '"step": 8, "probe/' in line)
        path.write_text("".join(cut[: last + 1]))
        reports = RecentReports(Records(RunDir(run_folder(watched)))).last("steps_per_s")
        assert [report["step"] for report in reports] == [3, 4, 5, 6, 7]
        assert reports[-1]["steps_per_s"] > 0
    finally:
        path.write_text(kept)


def test_the_newest_probe_is_drawn_into_the_runs_folder(watched: Any) -> None:
    with Image.open(RunDir(run_folder(watched)).probe_picture) as picture:
        assert picture.format == "PNG" and min(picture.size) > 100


class Pinned:
    """What a tracker is told."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, dict[str, Any], list[str]]] = []

    def open(self, opened: Any) -> Any:
        from vocl.tracking.client import Known

        return Known()

    def log(self, step: int, row: dict[str, Any], pictures: Any = ()) -> None:
        self.rows.append((step, row, [picture.path.name for picture in pictures]))

    def close(self, ending: Any) -> None:
        assert ending.step == 11


def test_a_tracker_is_told_each_step_once_with_scores_and_picture(watched: Any) -> None:
    client = Pinned()
    Shown(RunDir(run_folder(watched)), client, False, 1.0).follow(0)
    assert [step for step, _, _ in client.rows] == list(range(12))  # all are reported, and two probed
    told = {step: (row[FG_ARI], pictures) for step, row, pictures in client.rows if FG_ARI in row}
    assert told == {step: (score, ["probe.png"]) for step, score in probes(watched).items()}
    assert all("loss" in row for _, row, _ in client.rows)


# --------------------------------------------------------------------------------------- what is asked


def test_papers_experiments_are_watched_and_the_default_is_not() -> None:
    assert composed([]).runtime.probe_every == 0
    assert composed(["experiment=slotcontrast/movi_c"]).runtime.probe_every == 5000


def test_a_best_probe_without_probes_is_refused() -> None:
    with pytest.raises(UserError, match="probe_best=true: there are no probes"):
        composed(["runtime.probe_best=true"])


@pytest.mark.parametrize("metric", ["iou", "discovery/iou", "objects/video_fg_ari"])
def test_a_score_that_no_evaluation_gives_is_refused(metric: str) -> None:
    with pytest.raises(UserError, match=rf"runtime.probe_metric={metric}: .*discovery/video_fg_ari"):
        composed([*ON, f"runtime.probe_metric={metric}"])


def test_a_trained_run_is_scored_by_others_than_its_probes_were(tmp_path: Path) -> None:
    words = ("runtime.probe_metric=discovery/video_mbo", "train.steps=5")
    config = tiny(tmp_path, *ON, *words)
    assert run.run(config) == 0
    assert RunDir(run_folder(config)).beat().probe.metric == "discovery/video_mbo"
    root = f"runtime.root={tmp_path}"
    assert verbs.evaluate([config.run_id, root, "eval=[single_object]"]) == 0
