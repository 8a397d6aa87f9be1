"""Discovery: the way from a model's soft masks to scores, on models whose answer is known."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import nn

from vocl import assemble
from vocl.config.compose import composed
from vocl.config.sections import Dataset
from vocl.data.feed import whole_video
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.evaluate.discovery import Discovery
from vocl.evaluate.protocol import Protocol
from vocl.interface import Grid, SegmentOptions, Segments, Subject
from vocl.metrics.overlap import MeanBestOverlap

CPU = torch.device("cpu")
DATASET = Dataset(
    name="drawn",
    source=None,
    size_px=[12, 16],
    fit="stretch",
    normalise="half",
    clip_frames=2,
    clip_starts="any",
    flip=0.0,
    reverse=0.0,
    sampling=None,
    augment=[],
    first_batches=None,
    views=0,
)


class Drawn:
    """Videos whose red channel is the true label times 20; `annotated` of them have a truth."""

    def __init__(self, num_videos=3, length=5, size=(12, 16), annotated=None):
        self.size, self.length = size, length
        self.labels = {f"v{i}": self._draw(i) for i in range(num_videos)}
        self.annotated = num_videos if annotated is None else annotated

    def _draw(self, index):
        labels = np.zeros((self.length, *self.size), np.uint8)
        step = self.size[1] // 16
        for t in range(self.length):
            labels[t, 2 * step : 6 * step, (t + index) * step : (t + index + 5) * step] = 1
            labels[t, 7 * step : 11 * step, (9 - t) * step : (14 - t) * step] = 2
        return labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return DrawnVideo(f"v{index}", self.labels[f"v{index}"])

    def truth(self, name):
        return Truth.from_labels(self.labels[name]) if int(name[1:]) < self.annotated else None


class DrawnVideo:
    def __init__(self, name, labels):
        self.name, self.labels = name, labels
        self.length, self.size = len(labels), labels.shape[1:]

    def frames(self, indices):
        return np.repeat(self.labels[list(indices)][..., None] * 20, 3, axis=-1)


class Oracle(nn.Module):
    """Reads the label off the colour: one hot masks at input resolution; counts its calls."""

    def __init__(self, order=(0, 1, 2)):
        super().__init__()
        self.order, self.seen = list(order), []

    def segment(self, clip, options, carry=None):
        self.seen.append((carry or 0, clip.video.shape[1]))
        labels = ((clip.video[:, :, 0] * 0.5 + 0.5) * 255 / 20).round().long()
        masks = nn.functional.one_hot(labels, 3)[..., self.order].float()
        grid = Grid(*clip.video.shape[-2:])
        masks = rearrange(masks, "b t h w k -> b t k (h w)")
        return Segments(masks=masks, grid=grid, carry=(carry or 0) + clip.video.shape[1])


def make(
    window=24, resolution="truth", overlap="drop", empty="skip", max_videos=None, cyclic=False, kind=Discovery
):
    return kind(
        split="validation",
        max_videos=max_videos,
        window=window,
        protocol=functools.partial(Protocol, name="p", resolution=resolution, overlap=overlap, empty=empty),
        options=functools.partial(SegmentOptions, cyclic=cyclic, iterations=None, seed=0),
    )


def subject(model, source, dataset=DATASET, keep=None):
    return Subject(model=model, dataset=dataset, source=lambda split: source, device=CPU, keep=keep)


def scores(report):
    return {k: v for k, v in report.metrics.items() if k.startswith(("video_", "image_"))}


@pytest.mark.parametrize("window", [1, 2, 5, 24])
@pytest.mark.parametrize("resolution", ["truth", "input"])
def test_an_oracle_scores_one(window, resolution):
    model = Oracle(order=(2, 0, 1))
    report = make(window, resolution).run(subject(model, Drawn()))
    assert len(scores(report)) == 7
    assert scores(report) == pytest.approx(dict.fromkeys(scores(report), 1.0))
    assert [row["video"] for row in report.rows] == ["v0", "v1", "v2"]
    assert all(row["num_frames"] == 5 and row["num_objects"] == 2 for row in report.rows)
    starts = [start for start, _ in model.seen]
    assert starts == [s for _ in range(3) for s in range(0, 5, window)]  # the carry, video by video


def test_a_slot_that_changes_its_object_costs_only_in_video_scores():
    class Swapping(Oracle):
        def segment(self, clip, options, carry=None):
            self.order = [0, 2, 1] if carry else [0, 1, 2]
            return super().segment(clip, options, carry)

    metrics = make(window=3).run(subject(Swapping(), Drawn())).metrics
    assert metrics["image_fg_ari"] == pytest.approx(1.0)
    assert metrics["video_fg_ari"] < 0.5 and metrics["video_mbo"] < 0.8


def test_truth_of_another_size():
    source = Drawn(size=(30, 40))
    at_truth = make(resolution="truth").run(subject(Oracle(), source))
    at_input = make(resolution="input").run(subject(Oracle(), source))
    assert at_input.metrics["video_mbo"] > 0.9 and at_truth.metrics["video_mbo"] > 0.7
    assert at_input.metrics["video_mbo"] != at_truth.metrics["video_mbo"]


def test_videos_without_truth_are_counted():
    report = make().run(subject(Oracle(), Drawn(num_videos=4, annotated=2)))
    assert report.metrics["num_without_truth"] == 2 and len(report.rows) == 2
    report = make(max_videos=3).run(subject(Oracle(), Drawn(num_videos=4, annotated=2)))
    assert report.metrics["num_without_truth"] == 1
    with pytest.raises(UserError, match=r"no video of split 'validation' has a truth"):
        make().run(subject(Oracle(), Drawn(annotated=0)))


def test_overlapping_truth():
    class Overlapping(Drawn):
        def truth(self, name):
            a = Truth.from_labels((self.labels[name] == 1).astype(np.uint8))
            both = Truth.from_labels((self.labels[name] > 0).astype(np.uint8))
            return Truth(a.size, a.length, (both.objects[0], a.objects[0]), a.void)

    contested = {}
    for overlap in ("drop", "paint"):
        report = make(overlap=overlap).run(subject(Oracle(), Overlapping()))
        contested[overlap] = [row["num_contested_points"] for row in report.rows]
    assert contested["drop"] == contested["paint"] == [5 * 20] * 3
    with pytest.raises(UserError, match=r"overlap; choose protocol\.overlap from drop, paint"):
        make(overlap="error").run(subject(Oracle(), Overlapping()))


def test_frames_without_objects():
    source = Drawn(num_videos=1)
    source.labels["v0"][3:] = 0
    skipped = make(empty="skip").run(subject(Oracle(order=(1, 2, 0)), source))
    assert skipped.rows[0]["num_empty_frames"] == 2

    class Blind(Oracle):
        def segment(self, clip, options, carry=None):
            out = super().segment(clip, options, carry)
            out.masks = torch.full_like(out.masks, 1 / out.masks.shape[2])
            return out

    skip, one = (make(empty=e).run(subject(Blind(), source)).metrics for e in ("skip", "one"))
    assert skip["image_fg_ari"] == 0.0 and one["image_fg_ari"] == pytest.approx(2 / 5)


def test_masks_are_kept():
    kept, model = {}, Oracle()
    make(window=2).run(subject(model, Drawn(), keep=lambda name, masks: kept.update({name: masks})))
    assert {m.shape for m in kept.values()} == {(5, 3, 192)}


@pytest.fixture(scope="module")
def recurrent():
    sizes = [
        "dataset.size_px=[16,16]",
        "dataset.source.size_px=16",
        "model.slot_dim=8",
        "model.corrector.mlp_dim=8",
    ]
    torch.manual_seed(0)
    return assemble.make_model(composed([*sizes, "model.decoder.hidden_dim=8"]), pretrained=True)


def video(length):
    source = Drawn(num_videos=1, length=length, size=(16, 16))
    return source[0], Dataset(**vars(DATASET) | {"size_px": [16, 16]})


def test_windows_of_any_size_give_the_same_masks(recurrent):
    one, dataset = video(5)
    soft = {}
    for window in (1, 2, 3, 5, 24):
        parts = make(window).windows(subject(recurrent, None, dataset), one)
        soft[window] = torch.cat([segments.masks for _, segments in parts], dim=1)
    for masks in soft.values():
        torch.testing.assert_close(masks, soft[24], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("iterations", [None, 4])
def test_the_order_of_a_cyclic_sweep(recurrent, iterations):
    one, dataset = video(4)
    calls = []
    hook = recurrent.corrector.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    options = SegmentOptions(cyclic=True, iterations=iterations, seed=0)
    discovery = make(window=2)
    discovery.options = options
    windows = list(discovery.windows(subject(recurrent, None, dataset), one))
    hook.remove()
    frames = recurrent.corrector.prepare(
        recurrent.adapter(recurrent.embed(whole_video(one, dataset, 0, 4, 0)))
    )[0]
    visits = [
        (next(t for t, frame in enumerate(frames) if torch.allclose(features[0], frame, atol=1e-6)), rounds)
        for _, features, rounds in calls
    ]
    assert len(windows) == 1 and windows[0][1].masks.shape[1] == 4  # the whole video in one window
    frames_in_order = [0, 1, 2, 3, 2, 1, 0]
    rounds = [3, 2, 2, 2, 2, 2, 2] if iterations is None else [4] * 7
    assert visits == list(zip(frames_in_order, rounds, strict=True))


def test_a_subclass_adds_a_score_of_its_own():
    class Wider(Discovery):
        def metrics(self):
            return super().metrics() | {"image_again": MeanBestOverlap(level="image")}

    before, found = (make(kind=kind).run(subject(Oracle(), Drawn())) for kind in (Discovery, Wider))
    assert found.metrics == before.metrics | {"image_again": before.metrics["image_mbo"]}
    assert [row["image_again"] for row in found.rows] == [row["image_mbo"] for row in before.rows]
