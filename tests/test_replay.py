"""A step that is not finite: nothing applied, a record, and a replay that names the culprit."""

from __future__ import annotations

import json

from running import final, run_folder, tiny, told

from vocl import run
from vocl.commands import verbs
from vocl.rundir.checkpoint import Checkpoints

BLOWN = ("optim.lr=1e30", "optim/schedule=constant", "optim.schedule.warmup_steps=0", "train.clip=null")


def files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_step_that_is_not_finite(tmp_path, capsys):
    config = tiny(tmp_path, *BLOWN, "runtime.checkpoint_every=1")
    assert run.run(config) == 1
    folder = run_folder(config)
    (said,) = told(capsys.readouterr().err)
    assert "not finite" in said and "0001-failed.json" in said
    record = json.loads((folder / "events" / "0001-failed.json").read_text())
    spoilt = record["non_finite"]
    assert record["outcome"] == "failed" and record["kind"] == "NonFinite"
    assert spoilt["step"] >= 1 and len(spoilt["names"]) == 4
    assert set(spoilt["terms"]) == {"feature_mse", "slot_contrast"}
    assert any(n.startswith("decoder.") for n in spoilt["gradient_norms"])
    assert "nan" in (spoilt["loss"], *spoilt["gradient_norms"].values())
    steps = [c.step for c in Checkpoints(folder / "checkpoints").list()]
    assert max(steps) == spoilt["step"] == final(config)["step"]  # the world before it, and no later one
    assert not (folder / "result.json").exists()

    before = files(tmp_path)
    last = spoilt["step"]
    assert verbs.replay([folder.name, f"steps={last - 1}:{last + 3}", f"runtime.root={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert files(tmp_path) == before
    assert lines[1].startswith(f"step {last - 1}: loss ")
    assert lines[2].startswith(f"step {last}: NOT FINITE: loss ")
    first = lines[-1]
    assert "first module whose output is not finite: model." in first


def test_a_replay_says_what_the_run_said(tmp_path, capsys):
    config = tiny(tmp_path)
    assert run.run(config) == 0
    folder = run_folder(config)
    capsys.readouterr()
    before = files(tmp_path)
    assert verbs.replay([str(folder), "steps=10:12"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert files(tmp_path) == before
    assert "from step 10" in out[0] and len(out) == 3
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()][10:]
    for line, log in zip(out[1:], logged, strict=True):
        assert f"loss {log['loss']:.6g} " in line and f"grad norm {log['grad_norm']:.6g}" in line


def test_gradients_alone_that_are_not_finite_are_named(tmp_path, monkeypatch, capsys):
    config = tiny(tmp_path, "runtime.checkpoint_every=2")
    forward = run.Trainer.forward

    def spoilt(self, step, clip):
        output, total, terms = forward(self, step, clip)
        if step == 3:
            next(iter(self.trainable.values())).register_hook(lambda g: g * float("nan"))
        return output, total, terms

    monkeypatch.setattr(run.Trainer, "forward", spoilt)
    assert run.run(config) == 1
    assert verbs.replay([str(run_folder(config)), "steps=3:4"]) == 0
    assert "gradients that are not: " in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path, capsys):
    config = tiny(tmp_path, "train.steps=2")
    assert run.run(config) == 0
    capsys.readouterr()
    folder = str(run_folder(config))
    for arguments in (
        ["nothing", "steps=0:1"],
        [folder, "steps=1:1"],
        [folder, "steps=0:3"],
        [folder, "steps=x"],
        [folder, "train.steps=9"],
    ):
        assert verbs.replay(arguments) == 2, arguments
        assert len(capsys.readouterr().err.splitlines()) == 1, arguments
