"""Cached features: the same bits as without, computed once, by any number of processes."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image
from running import TINY, child, final, on_ranks, result, run_folder, same, send, tiny, wait

from launch.commands import cache
from vocl import assemble, run
from vocl.commands.evaluate import add
from vocl.config.compose import composed
from vocl.data.features.cache import FeatureCache
from vocl.data.features.encoder import Encoder
from vocl.data.feed import Feed, whole_video
from vocl.data.served import Served
from vocl.data.sources.synthetic import SyntheticVideo
from vocl.errors import UserError

VIT = (
    "backbone=tiny_vit",
    "backbone.keys=true",
    "dataset.size_px=[28,42]",
    "dataset.source.size_px=32",
    "dataset.reverse=0.5",
)


def vit(root: Path, *overrides: str) -> dict:
    return tiny(root, *VIT, *overrides)


@pytest.fixture
def encoded(monkeypatch):
    """The number of frames that went through an encoder."""
    frames, call = [], Encoder.__call__

    def counted(self, some, flipped):
        frames.append(len(some))
        return call(self, some, flipped)

    monkeypatch.setattr(Encoder, "__call__", counted)
    return frames


def files(root: Path) -> list[Path]:
    return sorted((root / "features").glob("*/[!.]*.safetensors"))


def cache_of(config: dict, split: str = "train", training: bool = True) -> FeatureCache | None:
    model = assemble.make_model(config, pretrained=True)
    source = assemble.make_source(config, split)
    return assemble.feature_cache(config, source, split, model, torch.device("cpu"), training)


def quiet(done: int, total: int) -> None:
    pass


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_is_bit_for_bit_the_same_with_and_without(tmp_path, workers):
    plain = vit(tmp_path / "a", f"runtime.workers={workers}")
    cached = vit(tmp_path / "b", f"runtime.workers={workers}", "runtime.feature_cache=always")
    assert run.run(plain) == 0 and run.run(cached) == 0
    assert not files(tmp_path / "a")
    assert len(files(tmp_path / "b")) == 2 * 6 + 2  # training videos and their mirror images, held-out ones
    same(final(plain), final(cached))
    assert result(plain)["evals"] == result(cached)["evals"]


@pytest.mark.slow
def test_features_are_computed_once_for_all_runs_and_evaluations(tmp_path, encoded):
    frames = 4 * (2 * 6 + 2)
    assert run.run(vit(tmp_path, "runtime.feature_cache=always")) == 0
    first = sum(encoded)
    assert frames <= first <= frames + 1  # one is looked at to know how much room they take
    assert run.run(vit(tmp_path, "runtime.feature_cache=auto", "seed=1", "model.num_slots=3")) == 0
    config = vit(tmp_path, "runtime.feature_cache=auto")
    add(run_folder(config).name, ["eval.discovery.window=3", f"runtime.root={tmp_path}"])
    assert sum(encoded) == first


def test_no_frame_is_decoded_where_nothing_reads_pixels(tmp_path, monkeypatch):
    config = vit(tmp_path, "runtime.feature_cache=always")
    cache, dataset = cache_of(config), assemble.make_dataset(config)
    assert cache.fill([False, True], lambda: None, quiet) == 48
    clip = Feed(Served(cache.source, {"video"}, cache), dataset, 0, 4, 2).batch(3)
    monkeypatch.setattr(SyntheticVideo, "frames", lambda self, indices: pytest.fail("a frame was decoded"))
    source = Served(cache.source, (), cache)
    bare = Feed(source, dataset, 0, 4, 2).batch(3)
    assert bare.video is None and bare.valid.shape == (4, 2)
    same(vars(bare.features), vars(clip.features))
    assert whole_video(source[0], dataset, 0, 3, 0).video is None


def test_cached_features_are_those_of_the_batch(tmp_path):
    config = vit(tmp_path, "runtime.feature_cache=always")
    cache, dataset = cache_of(config), assemble.make_dataset(config)
    for step in range(3):
        clip = Feed(Served(cache.source, {"video"}, cache), dataset, 5, 6, 3).batch(step)
        assert clip.flipped.any() and not clip.flipped.all()
        with torch.no_grad():
            same(vars(clip.features), vars(cache.encoder.backbone(clip.video)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.fit=crop", "dataset.fit=crop"),
        ("dataset.augment=[{_target_: vocl.data.augment.colour.Grayscale, p: 0.2}]", "dataset.augment"),
        ("backbone.trainable=true", "backbone.trainable=true"),
        ("backbone=filters", "backbone._target_=vocl.nn.backbones.filters.Filters"),
    ],
)
def test_what_would_not_be_exact_is_refused_before_anything_starts(tmp_path, override, said):
    others = [o for o in VIT if not (override.startswith("backbone=") and o.startswith("backbone"))]
    with pytest.raises(UserError, match=r"feature_cache=always cannot be exact") as error:
        tiny(tmp_path, *others, "runtime.feature_cache=always", override)
    assert said in str(error.value)
    tiny(tmp_path, *others, "runtime.feature_cache=auto", override)


def test_auto_caches_what_is_exact(tmp_path):
    config = vit(tmp_path, "runtime.feature_cache=auto", "dataset.fit=crop")
    assert cache_of(config) is None
    assert cache_of(config, "validation", training=False) is not None


def test_a_damaged_file_is_made_again_and_an_unfinished_one_is_never_read(tmp_path):
    config = vit(tmp_path, "runtime.feature_cache=always")
    cache_of(config).fill([False], lambda: None, quiet)
    first, second, *_ = files(tmp_path)
    before = [path.read_bytes() for path in (first, second)]
    first.write_bytes(before[0][: len(before[0]) // 2])
    second.rename(second.parent / f".tmp-{second.name}")
    again = cache_of(config)
    assert again.fill([False], lambda: None, quiet) == 8
    assert [path.read_bytes() for path in (first, second)] == before
    first.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        again.store.read([(second.name, [0]), (first.name, [0])])


@pytest.mark.slow
def test_writers_at_the_same_time_leave_the_same_files(tmp_path):
    """Two processes that do not know of each other, after one that was killed while it wrote a file."""
    config = vit(tmp_path, "runtime.feature_cache=always", "dataset.source.num_train=30")

    def fill(killed_at: int | None = None) -> int:
        source, calls = cache_of(config), []

        def encode(frames, flipped):
            calls.append(len(frames))
            if len(calls) == killed_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return Encoder.__call__(source.encoder, frames, flipped)

        source._encode = lambda video, flipped: (encode(video.frames([i]), flipped) for i in range(4))
        source.fill([False, True], lambda: None, quiet)
        return 0

    assert wait(child(lambda: fill(killed_at=6))) == -signal.SIGKILL
    assert [wait(pid) for pid in [child(fill), child(fill)]] == [0, 0]
    assert len(list((tmp_path / "features").rglob(".tmp-*"))) == 1
    alone = vit(tmp_path / "alone", "runtime.feature_cache=always", "dataset.source.num_train=30")
    cache_of(alone).fill([False, True], lambda: None, quiet)
    found, expected = files(tmp_path), files(tmp_path / "alone")
    assert [p.name for p in found] == [p.name for p in expected] and len(found) == 60
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(found, expected, strict=True))


def test_other_weights_or_sizes_are_another_cache_and_other_pixels_another_file(tmp_path):
    def place(*overrides):
        source = cache_of(vit(tmp_path, "runtime.feature_cache=always", *overrides))
        return source.store.folder, source._name(source.source[0], False)

    here = place()
    assert place("seed=3", "dataset.source.num_train=9", "loss.feature_mse.weight=2.0") == here
    assert place("backbone.init_seed=1")[0] != here[0]
    assert place("dataset.size_px=[42,42]")[0] != here[0]
    assert place("dataset.source.level=hard")[0] == here[0]
    assert place("dataset.source.level=hard")[1] != here[1]


def test_a_changed_frame_is_another_file(tmp_path):
    for split in ("train", "validation"):
        for part, mode in (("frames", "RGB"), ("masks", "L")):
            (tmp_path / "own" / split / "v" / part).mkdir(parents=True)
            for i in range(3):
                Image.new(mode, (42, 28)).save(tmp_path / "own" / split / "v" / part / f"{i}.png")
    files_only = [o for o in VIT if not o.startswith("dataset.")]
    overrides = ["dataset=files", "dataset.name=own", "dataset.size_px=[28,42]"]
    overrides += [f"runtime.data_root={tmp_path}", f"runtime.root={tmp_path}"]
    config = composed([*files_only, *overrides, "runtime.feature_cache=always"])
    before = cache_of(config)._name(cache_of(config).source[0], False)
    Image.new("RGB", (42, 28), "red").save(tmp_path / "own" / "train" / "v" / "frames" / "1.png")
    assert cache_of(config)._name(cache_of(config).source[0], False) != before


@pytest.mark.slow
def test_a_run_that_is_stopped_while_it_fills_the_cache_goes_on(tmp_path, monkeypatch):
    config = vit(tmp_path, "runtime.feature_cache=always")
    kept, seen = FeatureCache._kept, []

    def stopping(self, video, flipped):
        seen.append(video.name)
        if len(seen) == 3:
            send(signal.SIGTERM)()
        return kept(self, video, flipped)

    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, "_kept", stopping)
        assert run.run(config) == 75
    assert len(files(tmp_path)) == 3
    assert run.run(config) == 0
    plain = vit(tmp_path / "plain")
    assert run.run(plain) == 0
    same(final(config)["model"], final(plain)["model"])


def test_the_folder_says_what_it_holds(tmp_path):
    config = vit(tmp_path, "runtime.feature_cache=always")
    cache_of(config).fill([False], lambda: None, quiet)
    (about,) = (tmp_path / "features").glob("*/about.json")
    told = json.loads(about.read_text())
    first = {
        "_target_": "vocl.nn.backbone.RandomViT"
    }  # the name that its class had when features were first kept
    assert told["backbone"] == config.backbone | first and told["transform"][0] == [28, 42]


@pytest.mark.slow
def test_vocl_cache_does_the_work_of_the_first_run(tmp_path, encoded, capsys):
    overrides = [*TINY, *VIT, f"runtime.root={tmp_path}"]
    assert cache.main([*overrides, "seed=0,1", "model.num_slots=3,4"]) == 0
    told = capsys.readouterr().out
    assert "train: 48 frames, 48 of them new" in told and "validation: 8 frames, 8 of them new" in told
    assert len(files(tmp_path)) == 14 and told.count("\n") == 2
    first = sum(encoded)
    assert cache.main(overrides) == 0 and "48 frames, 0 of them new" in capsys.readouterr().out
    assert run.run(vit(tmp_path, "runtime.feature_cache=always")) == 0
    assert sum(encoded) == first
    assert cache.main([*TINY, f"runtime.root={tmp_path}"]) == 2
    told = capsys.readouterr().err
    assert re.search(r"seed 0: backbone\._target_=.*Filters.*nothing to cache\n$", told)


@pytest.mark.slow
def test_ranks_share_the_work(tmp_path):
    config = vit(tmp_path, "runtime.feature_cache=always")
    log = tmp_path / "encoded"

    def on_rank(rank: int) -> int:
        call = Encoder.__call__

        def counted(self, frames, flipped):
            with log.open("a") as file:
                file.write(f"{rank} {len(frames)}\n")
            return call(self, frames, flipped)

        Encoder.__call__ = counted
        return run.run(config)

    assert on_ranks(2, on_rank) == [0, 0]
    assert len(files(tmp_path)) == 14
    counts = [tuple(map(int, line.split())) for line in log.read_text().splitlines()]
    assert {rank for rank, _ in counts} == {0, 1}
    assert sum(frames for _, frames in counts) == 4 * 14 + 2  # each rank looks at one frame for its size
