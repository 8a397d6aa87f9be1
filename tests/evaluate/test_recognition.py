"""Recognition on a model whose slots hold their object's class and box, and on ones that hold less."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from made_up import DATASET, MadeUp, Videos, labels_of, squares

from vocl.config.check import check
from vocl.config.compose import compose
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.evaluate.recognition import Recognition
from vocl.interface import Grid, SegmentOptions, Segments, Subject, VideoModel

KINDS = ("cat", "dog", "owl")


class Knowing(VideoModel):
    """Segments are the objects; a slot holds the box of its segment and, at `names`, its class."""

    def __init__(self, classes: dict[str, tuple[str, ...]], names: bool = True, shift: int = 0) -> None:
        super().__init__()
        self.classes, self.names, self.shift = classes, names, shift

    def segment(self, clip, options, carry=None):
        labels = labels_of(clip.video)
        masks = torch.nn.functional.one_hot(labels.flatten(2), 3).transpose(2, 3).float()
        slots = torch.zeros(*masks.shape[:3], 4 + len(KINDS))
        for t, frame in enumerate(labels[0]):
            for label in (1, 2):
                rows, columns = torch.nonzero(frame == label, as_tuple=True)
                if len(rows):
                    ends = [
                        columns.min() / 32,
                        rows.min() / 24,
                        (columns.max() + 1) / 32,
                        (rows.max() + 1) / 24,
                    ]
                    slots[0, t, label, :4] = torch.tensor([float(e) for e in ends])
                    known = self.classes[clip.names[0]][label - 1]
                    slots[0, t, label, 4 + KINDS.index(known)] = 5.0 * self.names
        return Segments(masks=masks, grid=Grid(24, 32), slots=slots)


def videos(
    first: int, number: int, kinds: tuple[str, ...] = KINDS
) -> dict[str, tuple[np.ndarray, tuple[str, ...]]]:
    rng, out = np.random.default_rng(first), {}
    for index in range(first, first + number):
        places = [
            [(int(rng.integers(0, 14)), left + int(rng.integers(0, 6))) for _ in range(3)] for left in (0, 16)
        ]
        out[f"v{index}"] = squares(*places), (kinds[index % len(kinds)], kinds[(index + 1) % len(kinds)])
    return out


def run(train, test, **model):
    every = train | test
    known = Knowing({name: classes for name, (_, classes) in every.items()}, **model)

    def source(split: str) -> Videos:
        made = [MadeUp(name, labels) for name, (labels, _) in (train if split == "train" else test).items()]
        return Videos(made, {v.name: Truth.from_labels(v.labels, every[v.name][1]) for v in made})

    options = functools.partial(SegmentOptions, cyclic=False, iterations=None, seed=0)
    evaluation = Recognition(
        split="validation",
        train_split="train",
        max_videos=None,
        max_train_videos=None,
        window=2,
        min_iou=0.0,
        ridge=1e-6,
        options=options,
    )
    return evaluation.run(Subject(known, replace(DATASET, size_px=[24, 32]), source, torch.device("cpu")))


def test_slots_that_hold_class_and_box_are_read_without_loss() -> None:
    report = run(videos(0, 12), videos(20, 3))
    assert Recognition.scores == set(report.metrics)
    assert report.metrics["recognition_accuracy"] == report.metrics["recognition_macro_accuracy"] == 1
    assert report.metrics["recognition_box_iou"] == pytest.approx(1, abs=1e-3)
    assert report.metrics["recognition_segment_box_iou"] == report.metrics["recognition_matched"] == 1
    assert [row["num_objects"] for row in report.rows] == [6, 6, 6]


def test_slots_without_the_class_are_guessed_and_keep_their_boxes() -> None:
    report = run(videos(0, 12), videos(20, 6), names=False)
    assert report.metrics["recognition_accuracy"] < 0.7
    assert report.metrics["recognition_box_iou"] == pytest.approx(1, abs=1e-3)


def test_a_class_that_training_never_shows_is_left_out_and_counted() -> None:
    report = run(videos(0, 12, KINDS[:2]), videos(20, 3))
    assert report.metrics["num_unknown"] > 0 and report.metrics["recognition_accuracy"] == 1
    alone = run(videos(0, 12, KINDS[:2]), {"w": (squares([(0, 0)] * 2), ("owl",))})
    assert math.isnan(alone.rows[0]["recognition_accuracy"]) and alone.rows[0]["num_unknown"] == 2


@pytest.mark.parametrize(("kinds", "said"), [(KINDS[:1], "1 classes"), ((), "no object with a class")])
def test_what_no_probe_can_be_fitted_on_is_refused(kinds: tuple[str, ...], said: str) -> None:
    train = videos(0, 4, kinds) if kinds else {n: (labels, ()) for n, (labels, _) in videos(0, 4).items()}
    with pytest.raises(UserError, match=said):
        run(train, videos(20, 3))


def test_its_config_is_a_config() -> None:
    assert check(compose(["eval=[recognition]"])).eval["recognition"].content["train_split"] == "train"
