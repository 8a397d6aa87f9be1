"""Whole runs of Interpreter: stopped around the stage boundary, on two processes, from another run."""

from __future__ import annotations

import json
import signal

import torch
from running import (
    SGD,
    TINY,
    at_step,
    final,
    result,
    rooted,
    run_folder,
    same,
    send,
    two_ranks_equal_one,
)

from vocl import run
from vocl.config.compose import composed

RUN = (
    "experiment=interpreter/synthetic",
    "dataset.clip_frames=6",  # of videos of four: they are repeated
    "train.batch=2",
    "curriculum.stages.image.feed.batch=4",
    "model.num_slots=3",
    "model.image.num_slots=4",
    "model.image.slot_dim=8",
    "model.image.decoder={dim:8,num_blocks:1,ffn_dim:8}",
    "model.image.corrector.mlp_dim=8",
    "model.video.encoder={num_blocks:1,ffn_dim:8}",
    "model.video.decoder={dim:8,num_blocks:1,ffn_dim:8}",
    "model.video.corrector.mlp_dim=8",
)
LACKING = ("model.adapter", "model.predictor", "model.corrector", "model.decoder", "train.batch=4")


def config(root, *overrides: str):
    """A run of 12 steps, six on images, without the helper's overrides of parts that this model lacks."""
    out = composed([o for o in TINY if not o.startswith(LACKING)] + [*RUN, *overrides])
    return rooted(root, out)


def alone(root, level: str, term: str, *overrides: str):
    """A run of six steps of one level."""
    stage = (f"curriculum=interpreter_{level}", f"curriculum.stages.{level}.length=1", "train.steps=6")
    return config(root, *stage, f"loss=[{term}]", *overrides)


def log(settings) -> list[dict]:
    return [json.loads(line) for line in (run_folder(settings) / "metrics.jsonl").read_text().splitlines()]


def test_a_run_stopped_around_the_boundary_ends_as_one_that_was_not(tmp_path, monkeypatch) -> None:
    whole, torn = config(tmp_path / "whole"), config(tmp_path / "torn")
    assert run.run(whole) == 0
    before = {}
    for step in (2, 5, 6):  # saved at 3, at 6, where the video level begins, and at 7
        with monkeypatch.context() as patch:
            at_step(patch, step, send(signal.SIGTERM))
            assert run.run(torn) == 75
        before[step + 1] = final(torn)["model"]
    assert run.run(torn) == 0
    same(final(whole), final(torn))
    assert result(whole)["metrics"] == result(torn)["metrics"]
    terms = [{key for key in line if key.startswith("term.")} for line in log(whole)]
    assert terms == [{"term.image_feature_mse"}] * 6 + [{"term.sinkhorn_divergence"}] * 6
    assert [line["stage"] for line in log(whole)] == [0] * 6 + [1] * 6
    for name, tensor in final(whole)["model"].items():
        trained = [
            not torch.equal(tensor, before[6][name]),
            not torch.equal(before[6][name], before[3][name]),
        ]
        prior = "initializer" in name  # gets no gradient
        expected = {"image": [False, not prior], "video": [not prior, False]}.get(name.split(".")[0])
        assert expected is None or trained == expected, name


def test_two_ranks_equal_one(tmp_path) -> None:
    settings = (*SGD, "curriculum.stages.image.rate=null", "curriculum.stages.video.rate=null")
    one, two = config(tmp_path / "one", *settings), config(tmp_path / "two", *settings)
    two_ranks_equal_one(one, two, tmp_path / "log")
    for a, b in zip(log(one), log(two), strict=True):
        assert abs(a["loss"] - b["loss"]) < 1e-5 * a["loss"]


def test_the_video_level_may_start_from_another_runs_images(tmp_path) -> None:
    images = alone(tmp_path, "image", "image_feature_mse")
    assert run.run(images) == 0
    run_id = run_folder(images).name
    warm = f"warm_start={{run: {run_id}, take: [image.*]}}"
    videos = alone(tmp_path, "video", "sinkhorn_divergence", warm)
    assert run.run(videos) == 0
    ours, theirs = final(videos)["model"], final(images)["model"]
    for name, tensor in theirs.items():
        assert torch.equal(tensor, ours[name]) != name.startswith("video") or "initializer" in name, name


def test_kept_slots_change_no_run(tmp_path) -> None:
    """Two runs whose identities differ in the size of the cache alone."""
    kept, fresh = (config(tmp_path, f"model.cache_mb={megabytes}") for megabytes in (100, 0))
    assert run.run(kept) == run.run(fresh) == 0
    assert run_folder(kept) != run_folder(fresh)
    same(final(kept)["model"], final(fresh)["model"])
