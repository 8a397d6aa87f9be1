"""Models that train nothing, and the baselines: masks from features alone, and whole runs of them."""

from __future__ import annotations

import json

import pytest
import torch
from running import at_step, final, on_ranks, result, rooted, run_folder, same, send

from vocl import assemble, run
from vocl.config.compose import composed
from vocl.errors import UserError
from vocl.interface import Clip, Features, Grid, SegmentOptions
from vocl.ops.clustering import kmeans, nearest, spread_points

OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)
RUN = (
    "dataset.source.size_px=16",
    "dataset.size_px=[16,16]",
    "dataset.source.num_frames=4",
    "dataset.source.num_train=6",
    "dataset.source.num_validation=2",
    "train.batch=4",
    "runtime.threads=1",
    "runtime.device=cpu",
    "runtime.progress=false",
)
NOTHING = ("experiment=baselines/synthetic", "eval=[]")


def make(*overrides: str):
    torch.manual_seed(0)
    return assemble.make_model(composed([*overrides]), pretrained=False)


def clip_of(labels: torch.Tensor, key: int = 0) -> Clip:
    """A clip of batch 1 whose features say `labels` t r s, far apart and a little noisy."""
    t, rows, columns = labels.shape
    generator = torch.Generator().manual_seed(7)
    centres = 10 * torch.randn(int(labels.max()) + 1, 48, generator=generator)
    tokens = centres[labels.flatten(1)] + 0.1 * torch.randn(t, rows * columns, 48, generator=generator)
    features = Features(tokens.unsqueeze(0), Grid(rows, columns))
    video, valid = torch.zeros(1, t, 3, 56, 56), torch.ones(1, t, dtype=torch.bool)
    return Clip(video, valid, torch.tensor([key]), ("v",), features=features)


def same_partition(masks: torch.Tensor, labels: torch.Tensor) -> bool:
    pairs = {(int(a), int(b)) for a, b in zip(masks[0].argmax(1).flatten(), labels.flatten(), strict=True)}
    return len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


LABELS = torch.arange(3 * 16).reshape(3, 4, 4) % 5 % 3  # 3 frames of 4 x 4 patches, 3 labels


def test_rectangles():
    model = make(*NOTHING, "model=rectangles", "model.rows=2", "model.columns=3")
    labels = torch.zeros(2, 4, 6, dtype=torch.int64)
    found = model.segment(clip_of(labels), OPTIONS)
    assert found.masks.shape == (1, 2, 6, 24)
    expected = torch.tensor([[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2).flatten()
    assert torch.equal(found.masks[0].argmax(1), expected.expand(2, -1))
    one = make(*NOTHING, "model=rectangles", "model.rows=1", "model.columns=1")
    assert torch.equal(one.segment(clip_of(labels), OPTIONS).masks, torch.ones(1, 2, 1, 24))


def test_k_means_of_a_video_finds_what_is_apart():
    model = make(*NOTHING, "model=kmeans_video", "model.num_slots=3")
    clip = clip_of(LABELS)
    found = model.segment(clip, OPTIONS)
    assert same_partition(found.masks, LABELS)
    assert torch.equal(found.masks.sum(2), torch.ones(1, 3, 16)) and found.slots.shape == (1, 3, 3, 48)
    torch.manual_seed(5)
    assert torch.equal(model.segment(clip, OPTIONS).masks, found.masks)  # drawn from the key alone
    later = model.segment(clip_of(LABELS[:, :2]), OPTIONS, found.carry)
    assert torch.equal(later.masks[0].argmax(1), found.masks[0].argmax(1)[:, :8])


def test_k_means_against_scikit_learn():
    from sklearn.cluster import KMeans

    points = torch.randn(400, 6, generator=torch.Generator().manual_seed(0)).double()
    draw = torch.Generator().manual_seed(1)
    first = spread_points(points, 5, torch.Generator().manual_seed(1))
    ours = kmeans(points, 5, 100, 1, draw)
    theirs = KMeans(5, init=first.numpy(), n_init=1, max_iter=100, tol=0).fit(points.numpy())
    torch.testing.assert_close(ours, torch.from_numpy(theirs.cluster_centers_))
    assert torch.equal(nearest(points, ours), torch.from_numpy(theirs.labels_).long())


def test_the_best_of_several_tries_is_taken():
    points = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))

    def error(restarts: int) -> float:
        found = kmeans(points, 8, 20, restarts, torch.Generator().manual_seed(3))
        return float(torch.cdist(points, found).amin(1).square().sum())

    errors = [error(restarts) for restarts in range(1, 6)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < errors[0]


def test_points_that_start_k_means_are_spread():
    points = torch.cat([torch.zeros(500, 2), torch.full((3, 2), 9.0), torch.tensor([[-9.0, 9.0]])])
    for seed in range(10):
        chosen = spread_points(points, 3, torch.Generator().manual_seed(seed))
        assert len(chosen.unique(dim=0)) == 3


# ------------------------------------------------------------------------------------------ runs


def config(root, *overrides: str):
    out = composed([*RUN, *overrides])
    return rooted(root, out)


def test_a_run_that_trains_nothing_is_evaluated(tmp_path):
    evaluation = ["eval=[propagation]", "eval.propagation.rule.short_px=dataset"]
    asked = config(tmp_path, NOTHING[0], "model=backbone_only", *evaluation)
    assert run.run(asked) == 0
    metrics = result(asked)["metrics"]
    assert metrics["propagation_jf"] > 0.5
    events = sorted(path.name for path in run_folder(asked).glob("events/*"))
    assert len(events) == 2 and events[0].endswith("done.json")
    assert run.run(asked) == 0  # the scores are there
    assert json.loads((run_folder(asked) / "result.json").read_text())["metrics"] == metrics


@pytest.mark.parametrize("model", ["rectangles", "kmeans_video"])
def test_baselines_are_scored_as_methods_are(tmp_path, model):
    asked = config(
        tmp_path, NOTHING[0], f"model={model}", "eval=[discovery,single_object,davis_unsupervised]"
    )
    assert run.run(asked) == 0
    evals = result(asked)["evals"]
    assert 0 < evals["discovery"]["metrics"]["video_mbo"] < 1
    assert 0 < evals["single_object"]["metrics"]["single_best_slot_j"] < 1
    assert 0 < evals["davis_unsupervised"]["metrics"]["davis_official_jf"] < 1


def test_it_needs_no_training_split(tmp_path, monkeypatch):
    asked = config(tmp_path, *NOTHING, "model=backbone_only")
    make_source = assemble.make_source

    def without_train(given, split, *more, **named):
        assert split != "train"
        return make_source(given, split, *more, **named)

    monkeypatch.setattr(assemble, "make_source", without_train)
    assert run.run(asked) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=slotcontrast/synthetic", "loss=[]"], "nothing to train on, choose at least one term"),
        ([*NOTHING, "loss=[feature_mse]"], "needs recon, target, which model"),
        ([NOTHING[0], "model=backbone_only", "eval=[discovery]"], "needs masks, which model"),
    ],
)
def test_what_does_not_fit(overrides, message):
    with pytest.raises(UserError, match=message):
        composed(overrides)


SPLIT = (
    "experiment=baselines/synthetic",
    "model=kmeans_split",
    "model.num_slots=4",
    "loss=[feature_mse]",
    "train.steps=12",
    "train.clip=null",
    "optim.lr=0.05",
    "optim/schedule=cosine",
    "optim.schedule.warmup_steps=2",
    "runtime.checkpoint_every=5",
    "runtime.log_every=1",
    "eval=[single_object]",
)


def test_one_k_means_for_all_videos_learns_and_resumes(tmp_path, monkeypatch):
    whole, torn = config(tmp_path / "whole", *SPLIT), config(tmp_path / "torn", *SPLIT)
    assert run.run(whole) == 0
    with monkeypatch.context() as patch:
        at_step(patch, 7, send(15))
        assert run.run(torn) == 75
    assert run.run(torn) == 0
    same(final(whole), final(torn))
    lines = (run_folder(whole) / "metrics.jsonl").read_text().splitlines()
    losses = [entry["loss"] for entry in map(json.loads, lines) if "loss" in entry]
    assert len(losses) == 12 and max(losses[1:]) < losses[0] / 2  # the first batch gives the centroids
    assert result(whole)["metrics"]["single_best_slot_j"] > 0.05


def test_two_ranks_start_from_the_same_centroids(tmp_path):
    asked = config(tmp_path, *SPLIT, "eval=[]")
    log = tmp_path / "log"
    assert on_ranks(2, lambda rank: run.run(asked), log) == [0, 0], log.read_text()
    centroids = final(asked)["model"]["centroids"]
    assert centroids.isfinite().all() and len(centroids.unique(dim=0)) == 4
