"""Interpreter's masks, of whole videos in one pass."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_interpreters import OPTIONS, begin, clip_of, make, merge_the_nearest

from vocl.errors import UserError
from vocl.models.interpreter import CHUNK
from vocl.nn import levels
from vocl.nn.levels import propagate


def test_propagation() -> None:
    generator = torch.Generator().manual_seed(0)
    frame = torch.randn(2, 3, 5, 16, generator=generator).softmax(2)
    video = torch.randn(2, 3, 4, 5, generator=generator).softmax(2)
    masks = propagate(frame, video)
    torch.testing.assert_close(masks, torch.einsum("btks,btsn->btkn", video, frame))
    torch.testing.assert_close(masks.sum(2), torch.ones(2, 3, 16))
    torch.testing.assert_close(propagate(frame, torch.eye(5).expand(2, 3, -1, -1)), frame)
    order = torch.stack([torch.randperm(5, generator=generator) for _ in range(3)])
    index = order[None, :, :, None].expand_as(frame)
    again = propagate(frame.gather(2, index), video.gather(3, order[None, :, None].expand_as(video)))
    torch.testing.assert_close(again, masks)


@pytest.mark.parametrize("merging", [False, True])
def test_masks_are_the_product_of_both_attentions(merging: bool, monkeypatch) -> None:
    model, clip, kept = make("model.video.merge.threshold=1e-6").eval(), clip_of(1), []
    if merging:
        merge_the_nearest(model, model.segment(clip, OPTIONS).slots[0, 0])
    monkeypatch.setattr(levels, "merge", lambda *a, merge=levels.merge: kept.append(a) or merge(*a))
    found = model.segment(clip, OPTIONS)
    assert found.masks.shape == (1, 5, 6, 16) and found.grid == (4, 4) and found.exclusive
    torch.testing.assert_close(found.masks.sum(2), torch.ones(1, 5, 16))
    assert (found.masks.sum((0, 1, 3)) > 0).sum() == (5 if merging else 6)
    labels, attn = kept[0][3], kept[0][2]
    frame = begin(model, "image")(clip).attn
    alone = propagate(frame, attn.unflatten(2, (5, 7)).transpose(1, 2))
    for c in range(int(labels.max()) + 1):
        members = (labels[0] == c).nonzero().flatten()
        torch.testing.assert_close(found.masks[0, :, c], alone[0, :, members].sum(1))


def test_short_videos_are_repeated_and_cut_again() -> None:
    short, whole = clip_of(1, 3), clip_of(1, 3)
    whole = dataclasses.replace(
        whole, video=whole.video[:, [0, 1, 2, 0, 1]], valid=torch.ones(1, 5, dtype=torch.bool)
    )
    model = make().eval()
    found = model.segment(short, OPTIONS)
    assert found.masks.shape[1] == found.slots.shape[1] == 3
    assert torch.equal(found.masks, model.segment(whole, OPTIONS).masks[:, :3])
    longer = make("model.num_frames=2").eval().segment(short, OPTIONS)
    assert longer.masks.shape[1] == 3 and not torch.allclose(longer.masks, found.masks)
    many = model.segment(clip_of(1, 2 * CHUNK + 3), OPTIONS)
    assert many.masks.shape == (1, 2 * CHUNK + 3, 6, 16)


def test_the_options_of_an_evaluation() -> None:
    model, clip = make().eval(), clip_of(1)
    first = model.segment(clip, OPTIONS)
    assert torch.equal(first.masks, model.segment(clip, dataclasses.replace(OPTIONS, cyclic=True)).masks)
    more = model.segment(clip, dataclasses.replace(OPTIONS, iterations=9))
    assert not torch.allclose(first.masks, more.masks)
    with pytest.raises(UserError, match=r"options.masks=decoder: masks are attention here"):
        model.segment(clip, dataclasses.replace(OPTIONS, masks="decoder"))
    assert model.whole_video
    with pytest.raises(UserError, match="window: the model takes a video at once"):
        model.segment(clip, OPTIONS, first.carry)
    assert model.embed(clip).shape == (1, 5, 16, 48)


def test_frames_of_another_size_are_segmented_too() -> None:
    clip = clip_of(1)
    larger = dataclasses.replace(clip, video=torch.nn.functional.pad(clip.video, (0, 28)))
    found = make().eval().segment(larger, OPTIONS)
    assert found.grid == (4, 6) and found.masks.shape == (1, 5, 6, 24)


def test_features_that_a_clip_brings_take_the_place_of_frames() -> None:
    model, clip = make().eval(), clip_of(2, said=True)
    with_features = dataclasses.replace(clip, features=model.backbone(clip.video))
    for level in ("image", "video"):
        begin(model, level)
        torch.testing.assert_close(model(with_features).slots, model(clip).slots)
    torch.testing.assert_close(
        model.segment(with_features, OPTIONS).masks, model.segment(clip, OPTIONS).masks
    )
