"""Slots of frames that Interpreter keeps for its video level."""

from __future__ import annotations

import dataclasses

import torch
from small_interpreters import begin, clip_of, make
from torch import Tensor

from vocl.interface import Clip
from vocl.models.interpreter import Interpreter


def counted(model: Interpreter, monkeypatch) -> list[int]:
    """How many frames the backbone sees, call by call."""
    seen, forward = [], model.backbone.forward
    monkeypatch.setattr(model.backbone, "forward", lambda video: seen.append(len(video)) or forward(video))
    return seen


def outputs(model: Interpreter, clips: list[Clip]) -> list[Tensor]:
    return [x for clip in clips for output in [model(clip)] for x in (output.target, output.recon)]


def test_kept_slots_are_the_same_bits(monkeypatch) -> None:
    """Whatever the batches are made of, and however much fits."""
    clips = []
    for key in range(8):
        clip = clip_of(4, said=True)
        order = torch.randperm(4, generator=torch.Generator().manual_seed(key))[: 1 + key % 4]
        names = tuple(clip.names[i] for i in order)
        rows = {f: getattr(clip, f)[order] for f in ("video", "valid", "frames", "flipped")}
        clips.append(Clip(names=names, key=torch.tensor([seed % 3 for seed in range(len(order))]), **rows))
    found = {}
    for megabytes in (0, 200):
        model = begin(make(f"model.cache_mb={megabytes}"), "video")
        found[megabytes] = outputs(model, clips)
        seen = counted(model, monkeypatch)
        again = outputs(model, clips)
        assert (sum(seen) == 0) == (megabytes > 0)
        found[-1 - megabytes] = again
    model = begin(make("model.cache_mb=1"), "video")
    model.cache.limit_bytes = 20 * 7 * 12 * 4  # 20 frames of about 60
    found["some"] = outputs(model, clips)
    assert 0 < model.cache.used_bytes <= model.cache.limit_bytes
    for other in found.values():
        assert all(torch.equal(a, b) for a, b in zip(other, found[0], strict=True))


def test_a_frame_has_few_noises_and_each_is_kept() -> None:
    clip = clip_of(1, said=True)
    model = begin(make("model.noise_seeds=2"), "video")
    targets = [model(dataclasses.replace(clip, key=torch.tensor([key]))).target[0, 3] for key in range(20)]
    assert len({tuple(target.flatten().tolist()) for target in targets}) == 2
    free = begin(make("model.noise_seeds=null"), "video")
    targets = [free(dataclasses.replace(clip, key=torch.tensor([key]))).target[0, 3] for key in range(20)]
    assert len({tuple(target.flatten().tolist()) for target in targets}) == 20
    assert free.cache.used_bytes == 0


def test_slots_are_kept_by_what_the_frame_shows_and_not_without_its_number() -> None:
    model, clip = begin(make(), "video"), clip_of(1, said=True)
    first = model(clip).target
    crop = dataclasses.replace(clip, video=clip.video.roll(3, dims=-1) * 0.9)
    fresh = begin(make("model.cache_mb=0"), "video")
    assert torch.equal(model(crop).target, fresh(crop).target)
    assert torch.equal(model(clip).target, first)
    mirrored = dataclasses.replace(clip, flipped=torch.tensor([True]))
    assert not torch.equal(model(mirrored).target, first)  # noise of its own
    model.cache.clear()
    model(dataclasses.replace(clip, frames=None))
    model(dataclasses.replace(clip, flipped=None))
    assert model.cache.used_bytes == 0


def test_kept_slots_go_when_the_image_level_changes() -> None:
    model, clip = begin(make(), "video"), clip_of(1, said=True)
    first = model(clip).target
    with torch.no_grad():
        model.image.corrector.to_q.weight.mul_(1.5)
    changed = model(clip).target
    assert not torch.equal(changed, first)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not any("cache" in name for name in weights)
    with torch.no_grad():
        for p in model.video.parameters():
            p.add_(0.01)
    used = model.cache.used_bytes
    model(clip)
    assert model.cache.used_bytes == used  # the video level's weights do not matter
    other = begin(make(), "video")
    other(clip)
    other.load_state_dict(weights)
    assert torch.equal(other(clip).target, changed)
