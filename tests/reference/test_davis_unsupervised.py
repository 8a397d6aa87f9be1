"""Unsupervised multi-object scores against the official evaluator's and its modified copy's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from vocl.interface import VOID
from vocl.metrics.davis import (
    Scores,
    assigned_per_frame,
    assigned_per_video,
    num_objects,
    one_hot,
    pair_scores,
    summary,
)
from vocl.ops.masks import stretched_masks

FILE = "davis_unsupervised.safetensors"
RULES = {"official": assigned_per_video, "per_frame": assigned_per_frame}


@pytest.fixture(scope="module")
def values(golden) -> dict[str, np.ndarray]:
    return {key: tensor.numpy() for key, tensor in golden(FILE)[1].items()}


@pytest.fixture(scope="module")
def sequences(golden) -> list[str]:
    return json.loads(golden(FILE)[2]["sequences"])


@pytest.fixture(scope="module")
def pairs(values, sequences) -> dict[str, Scores]:
    """J and F of each proposal with each object."""
    return {name: pairs_of(values, name, proposals(values[f"{name}.proposals"])) for name in sequences}


def proposals(labels: np.ndarray) -> np.ndarray:
    return np.stack([one_hot(frame, labels.max()) for frame in labels])


def pairs_of(values, name: str, found: np.ndarray) -> Scores:
    truth, count = values[f"{name}.truth"], int(values[f"{name}.objects"].item())
    return pair_scores((p, one_hot(t, count), t == VOID) for p, t in zip(found, truth, strict=True))


def by_object(rows: np.ndarray, assignment: np.ndarray) -> np.ndarray:
    """Rows n t, which stand in the order of the proposals, in that of the objects.

    `assignment` (proposal, object), from 1: n 2, or t n 2.
    """
    out = np.empty_like(rows)
    for t in range(rows.shape[1]):
        pairs = assignment[t] if assignment.ndim == 3 else assignment
        out[pairs[:, 1] - 1, t] = rows[:, t]
    return out


def test_the_objects_are_those_of_frame_0(values, sequences):
    for name in sequences:
        assert num_objects(values[f"{name}.truth"], VOID) == values[f"{name}.objects"].item()


def test_every_pair(values, pairs):
    for name, ours in pairs.items():
        for letter, found in zip("JF", ours, strict=True):
            np.testing.assert_allclose(found, values[f"{name}.{letter}_matrix"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
def test_assignment_and_scores(values, pairs, rule):
    everything = []
    for name, ours in pairs.items():
        scores, proposal = RULES[rule](ours)
        assignment = values[f"{name}.{rule}.assignment"]
        for letter, found in zip("JF", scores, strict=True):
            theirs = by_object(values[f"{name}.{rule}.{letter}"], assignment)
            np.testing.assert_allclose(found, theirs, rtol=0, atol=1e-5)
        chosen = np.broadcast_to(assignment, (ours.j.shape[2], *assignment.shape[-2:]))[..., 0].T - 1
        assert (by_object(chosen, assignment).T == proposal.T).all()
        everything.append(scores)
    np.testing.assert_allclose(list(summary(everything).values()), values[f"{rule}.global"], atol=1e-5)


def test_overlapping_soft_proposals(values, sequences):
    everything = []
    for name in sequences:
        soft, truth = torch.from_numpy(values[f"{name}.soft_proposals"]), values[f"{name}.truth"]
        counts = values[f"{name}.soft_counts"]
        found = torch.stack([stretched_masks(frame, truth.shape[1:], 0.3) for frame in soft]).numpy()
        found &= (np.arange(soft.shape[1]) < counts[:, None])[..., None, None]
        theirs = values[f"{name}.smtc_release.masks"]
        both = min(len(theirs), soft.shape[1])  # rows that no frame uses may be there or not
        assert (found.swapaxes(0, 1)[:both] == theirs[:both]).all()
        assert not found[:, both:].any() and not theirs[both:].any()
        scores, _ = assigned_per_frame(pairs_of(values, name, found))
        for letter, ours in zip("JF", scores, strict=True):
            rows = values[f"{name}.smtc_release.{letter}"]
            np.testing.assert_allclose(np.sort(ours, axis=0), np.sort(rows, axis=0), rtol=0, atol=1e-5)
        everything.append(scores)
    np.testing.assert_allclose(list(summary(everything).values()), values["smtc_release.global"], atol=1e-5)
