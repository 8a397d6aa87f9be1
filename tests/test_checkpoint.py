"""Checkpoints: what is damaged is noticed, what was left unfinished does no harm."""

from __future__ import annotations

import os
import pickle
import signal

import pytest
import torch
from running import (
    at_step,
    final,
    run_folder,
    same,
    send,
    steps_logged,
    tiny,
    torn_at,
)

from vocl import assemble, run
from vocl.errors import UserError
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.checkpoint_files import digest_of, frozen_name, name_of


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path / "checkpoints")


def state(step):
    return {"step": step, "model": {"w": torch.full((3,), float(step))}, "frozen": None}


def damage(path, how):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if how == "truncated" else content[:-100] + bytes(100))


def test_the_newest_two_are_kept_and_what_is_asked_for(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep_steps=frozenset({2}))
    for step in range(1, 7):
        checkpoints.save(step, state(step))
    assert [c.step for c in checkpoints.list()] == [6, 5, 2]
    assert checkpoints.newest(before=4)[0].step == 2
    assert checkpoints.newest(before=1) is None


@pytest.mark.parametrize("how", ["truncated", "overwritten"])
def test_a_damaged_checkpoint_is_passed_over_and_then_replaced(checkpoints, how):
    checkpoints.save(1, state(1))
    checkpoints.save(2, state(2))
    damage(checkpoints.save(3, state(3)).path, how)
    found, loaded = checkpoints.newest()
    assert found.step == 2 and loaded["step"] == 2
    checkpoints.save(3, state(4))  # other content of the same step
    assert [c.step for c in checkpoints.list()] == [3, 2]
    assert checkpoints.newest()[0].step == 3


def test_a_later_one_is_dropped_when_the_run_goes_on_from_an_earlier(checkpoints):
    for step in (4, 8):
        checkpoints.save(step, state(step))
    damage(checkpoints.list()[0].path, "truncated")
    checkpoints.save(5, state(5))
    assert [c.step for c in checkpoints.list()] == [5, 4]


def test_opening_one_executes_nothing(checkpoints):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(checkpoints.folder / "sprung"),)

    checkpoints.save(1, state(1) | {"curriculum": Trap()})
    with pytest.raises(Exception, match=r"[Ww]eights"):
        checkpoints.newest()
    assert not (checkpoints.folder / "sprung").exists()


def test_frozen_weights_are_stored_once_and_checked(tmp_path):
    frozen = {"backbone.w": torch.arange(1000.0)}
    runs = [Checkpoints(tmp_path / name / "checkpoints") for name in "ab"]
    digests = {c.save_frozen(frozen, tmp_path / "weights") for c in runs}
    assert len(digests) == 1
    digest = digests.pop()
    files = [c.folder / f"frozen-{digest}.safetensors" for c in runs]
    assert files[0].samefile(files[1])
    same(runs[0].load_frozen(digest), frozen)
    files[0].write_bytes(files[0].read_bytes()[:-4])
    with pytest.raises(UserError, match="damaged"):
        runs[1].load_frozen(digest)
    assert runs[0].save_frozen(frozen, tmp_path / "weights") == digest  # mends it
    same(runs[0].load_frozen(digest), frozen)
    files[0].unlink()
    with pytest.raises(UserError, match="missing"):
        runs[0].load_frozen(digest)


def test_a_run_goes_on_from_the_one_before_a_damaged_one(tmp_path, monkeypatch):
    whole = tiny(tmp_path / "whole")
    assert run.run(whole) == 0
    config = tiny(tmp_path / "torn")
    with monkeypatch.context() as patch:
        at_step(patch, 6, send(signal.SIGTERM))
        assert run.run(config) == 75
    folder = run_folder(config) / "checkpoints"
    newest = Checkpoints(folder).list()[0]
    assert newest.step == 7
    damage(newest.path, "truncated")
    (folder / ".tmp-000000008-xyz.abcd.pt").write_bytes(b"half of")
    (folder.parent / ".tmp-heartbeat.abcd.json").write_text("{")
    with (folder.parent / "metrics.jsonl").open("a") as log:
        log.write('{"step": 3, "lo')  # torn
    assert run.run(config) == 0
    assert '"step": 5' in (folder.parent / "events" / "0002-start.json").read_text()
    same(final(config), final(whole))
    assert steps_logged(config) == list(range(12))
    assert not list(folder.parent.rglob(".tmp-*"))


@pytest.fixture
def frozen_adapter(monkeypatch):
    """Models whose adapter no gradient reaches, as with a pretrained backbone."""
    make = assemble.make_model
    fresh = []

    def frozen(config, pretrained):
        fresh.append(pretrained)
        model = make(config, pretrained)
        model.adapter.requires_grad_(False)
        return model

    monkeypatch.setattr(assemble, "make_model", frozen)
    return fresh


def test_with_every_checkpoint_damaged_the_run_begins_again(tmp_path, monkeypatch, frozen_adapter):
    whole, config = tiny(tmp_path / "whole"), tiny(tmp_path / "torn")
    assert run.run(whole) == 0
    with monkeypatch.context() as patch:
        at_step(patch, 6, send(signal.SIGTERM))
        assert run.run(config) == 75
    for found in Checkpoints(run_folder(config) / "checkpoints").list():
        damage(found.path, "truncated")
    assert run.run(config) == 0
    same(final(config), final(whole))
    assert frozen_adapter == [True, True, True]  # pretrained weights are read again
    assert not any(name.startswith("adapter.") for name in final(config)["model"])
    assert len(list((tmp_path / "torn" / "weights").iterdir())) == 1


def test_a_teacher_is_saved_though_no_gradient_reaches_it(tmp_path, monkeypatch, frozen_adapter):
    """Weights that change without a gradient (after_step) must not be taken for frozen ones."""
    from vocl.models.recurrent import Recurrent

    def follow(self, step):
        with torch.no_grad():
            next(self.adapter.parameters()).data.mul_(1.01)

    monkeypatch.setattr(Recurrent, "after_step", follow)
    whole, config = tiny(tmp_path / "whole"), tiny(tmp_path / "torn")
    assert run.run(whole) == 0
    torn_at(config, monkeypatch, 3, 7)
    same(final(config), final(whole))
    assert sum(name.startswith("adapter.") for name in final(config)["model"]) == 1
    assert frozen_adapter == [True, True, False, False]


class _Runs:
    """An object that runs something as it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch PWNED",))


ALIEN = {
    "code": lambda file: torch.save({"model": _Runs()}, file),
    "a list": lambda file: torch.save([1], file),
    "no zip": lambda file: file.write_bytes(b"PK\3\4 and no more"),
    "nothing": lambda file: file.write_bytes(b""),
    "a cut pickle": lambda file: file.write_bytes(pickle.dumps({"a": [1] * 100})[:40]),
}


@pytest.mark.parametrize("kind", ALIEN)
def test_a_checkpoint_that_is_none_is_one_line_that_gives_no_advice(checkpoints, tmp_path, monkeypatch, kind):
    """Its name has the right digest: somebody made it."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "made"
    ALIEN[kind](made)
    checkpoints.folder.mkdir()
    path = made.rename(checkpoints.folder / name_of(5, digest_of(made.read_bytes())))
    with pytest.raises(UserError) as raised:
        checkpoints.newest()
    assert str(raised.value).startswith(f"{path}: ")
    assert "weights_only" not in str(raised.value) and "torch.load" not in str(raised.value)
    assert not (tmp_path / "PWNED").exists()


def test_a_checkpoint_without_weights_and_frozen_ones_that_are_none_are_told(checkpoints):
    checkpoints.save(1, {"step": 1})
    with pytest.raises(UserError, match="weights of a model"):
        checkpoints.weights(checkpoints.newest()[1])
    content = b"not safetensors"
    path = checkpoints.folder / frozen_name(digest_of(content))
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        checkpoints.load_frozen(digest_of(content))


def test_a_pipe_among_the_checkpoints_is_passed_over(checkpoints):
    checkpoints.save(1, state(1))
    os.mkfifo(checkpoints.folder / name_of(9, "0" * 16))
    assert checkpoints.newest()[0].step == 1
