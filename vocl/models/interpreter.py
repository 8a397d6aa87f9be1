"""Interpreter: slots of frames, and slots of a whole video that rebuild them; one level at a time."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge
from einops import rearrange
from torch import Tensor

from vocl.config.build import Part
from vocl.curriculum import Stage
from vocl.errors import UserError
from vocl.interface import Backbone, Clip, Context, Grid, Output, SegmentOptions, Segments, VideoModel
from vocl.nn.levels import FrameLevel, VideoLevel, propagate
from vocl.ops.cache import TensorCache
from vocl.ops.narrow import given, pair
from vocl.ops.random import seed_of, subkeys, uniform

CHUNK = 16  # frames encoded at once where no gradient is wanted


@dataclass(frozen=True, kw_only=True)
class LevelStage(Stage):
    """A stage that trains one `level` of a hierarchy: `image` the lower, on frames, `video` the upper."""

    level: Literal["image", "video"]


class Interpreter(VideoModel):
    """Efficient object-centric learning for videos (Interpreter).

    Image level: slots of each frame, from which a decoder rebuilds the frame's features. Video
    level: slots of a whole video, from which another rebuilds the sets of slots of its frames. The
    levels train one after the other, each by its own loss; the stages of the curriculum
    (`LevelStage`) say which is live. Masks are the product of the two levels' attention.

    In an image stage nothing of the video level is computed: `children` is the image level's
    `Output`, whose slots and attn stand at the top too. In a video stage the top is the video
    level's: `target` b t n d are the frames' slots, computed without gradient, `recon` those
    rebuilt; `slots` are the same in every frame; `attn` b t k n is the competition for the frame's n
    slots, not for its patches (`grid` is 1 x n); there are no `children`.

    In a video stage the first slots of a frame are drawn from one of `noise_seeds` numbers (null:
    anew each time), so that a frame has few different sets of slots, and up to `cache_mb` megabytes
    of them are kept in each process. Kept or not, they are the same bits. Clips that do not say
    which frames they show are encoded anew.

    `segment` needs whole videos. Those of fewer than `num_frames` frames are repeated up to it, as
    in training, and the result is cut again.
    """

    provides: ClassVar[frozenset[str]] = frozenset(
        {"slots", "attn", "target", "recon", "active", "children"}
    ) | frozenset(
        {"children.slots", "children.attn", "children.target", "children.recon", "children.features"}
    )
    answers: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "embed"})
    any_size: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "embed"})  # no decoder is asked
    scored_masks: ClassVar[frozenset[str]] = frozenset({"attention"})
    whole_video: ClassVar[bool] = True
    reads_features: ClassVar[bool] = True
    gives_context: ClassVar[frozenset[str]] = frozenset({"image.decoder", "video.decoder"})
    reads_video: bool = False

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        num_slots: Annotated[int, Ge(1)],
        slot_dim: Annotated[int, Ge(1)],
        num_frames: Annotated[int, Ge(1)],
        noise_seeds: Annotated[int, Ge(1)] | None,
        cache_mb: Annotated[int, Ge(0)],
        image: Part[FrameLevel],
        video: Part[VideoLevel],
    ) -> None:
        super().__init__()
        self.num_slots, self.num_frames, self.noise_seeds = num_slots, num_frames, noise_seeds
        self.backbone = backbone
        self.image = image(backbone.dim, backbone.grid(frame_px))
        self.video = video(self.image.slot_dim, num_slots, slot_dim)
        self.level: str = "video"
        self.active_slots, self.chance_to_keep = num_slots, 0.0
        self.cache = TensorCache(cache_mb * 10**6)
        self._cached_for: list[tuple[int, int]] | None = None

    def begin(self, stage: Any, step: int) -> None:
        """The live level; of the video level also its slots in training, and how often it merges none."""
        if not isinstance(stage, LevelStage):
            raise UserError(
                "curriculum: its stages do not say which level of the model they train; choose one whose "
                "stages are vocl.models.interpreter.LevelStage"
            )
        self.level = stage.level
        self.active_slots = stage.active_slots or self.num_slots
        self.chance_to_keep = self.video.chance_to_keep(step)

    def forward(self, clip: Clip) -> Output:
        if self.level == "image":
            image = self._image_output(clip)
            return Output(
                slots=image.slots, attn=image.attn, grid=image.grid, children=image, extra=image.extra
            )
        slots = self._frame_slots(clip)
        found = self.video(slots, clip.key, self.active_slots, self.chance_to_keep)
        context = Context(clip, inputs=found.inputs, target=slots)
        return Output(
            slots=_every_frame(found.slots, slots.shape[1]),
            attn=found.attn,
            grid=Grid(1, slots.shape[2]),
            target=slots,
            recon=self.video.decode(found, context),
            active=found.active,
            extra=context.extra or None,
        )

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """Masks b t k n of a whole video, in one pass. `options.cyclic` changes nothing."""
        if carry is not None:
            raise UserError(
                "window: the model takes a video at once, so it cannot go on with the next window"
            )
        if options.masks == "decoder":
            raise UserError("options.masks=decoder: masks are attention here; choose attention or null")
        length = clip.valid.shape[1]
        rows = self._rows(clip)
        if length < self.num_frames:
            rows = rows[:, torch.arange(self.num_frames) % length]
        key = subkeys(clip.key, "frame", rows.shape[1])
        found = self._encode(_merged(rows), _merged(key), options.iterations)
        slots, attn = (rearrange(x, "(b t) k x -> b t k x", b=len(rows)) for x in found)
        video = self.video(slots, clip.key, self.num_slots, iterations=options.iterations)
        masks = propagate(attn[:, :length], video.attn[:, :length])
        slots = _every_frame(video.slots, length)
        grid = (
            self.backbone.grid(pair(given(clip.video).shape[-2:]))
            if clip.features is None
            else clip.features.grid
        )
        return Segments(masks=masks, grid=grid, slots=slots, carry="whole")

    def embed(self, clip: Clip) -> Tensor:
        return self.encode(clip).tokens

    # ------------------------------------------------------------------------------------- parts

    def _rows(self, clip: Clip) -> Tensor:
        """What a frame is encoded from: its pixels, b t c h w, or features that are there, b t n e."""
        alone = clip.features is None and self.backbone.frames_per_token == 1
        return given(clip.video) if alone else self.encode(clip).tokens

    def _tokens(self, rows: Tensor) -> Tensor:
        """Features b t n e of frames b t c h w; what are features already stays."""
        return self.backbone(rows).tokens if rows.ndim == 5 else rows

    def _image_output(self, clip: Clip) -> Output:
        """The image level with its gradient."""
        tokens = self.encode(clip).tokens
        b, t = tokens.shape[:2]
        inputs = self.image.inputs(_merged(tokens))
        slots, attn = self.image(inputs, _merged(subkeys(clip.key, "frame", t)))
        context = Context(clip, tokens, inputs, self.image.grid, tokens.detach())
        recon = self.image.decode(slots, context)
        slots, attn, recon = (rearrange(x, "(b t) ... -> b t ...", b=b) for x in (slots, attn, recon))
        extra = {name: rearrange(x, "(b t) ... -> b t ...", b=b) for name, x in context.extra.items()}
        return Output(
            slots=slots,
            attn=attn,
            grid=self.image.grid,
            features=tokens,
            target=context.target,
            recon=recon,
            extra=extra or None,
        )

    @torch.no_grad()
    def _encode(self, rows: Tensor, key: Tensor, iterations: int | None = None) -> tuple[Tensor, Tensor]:
        """Slots m k d and attn m k n of frames `rows` m ..., always `CHUNK` of them at a time.

        The last chunk is filled up with its last frame: a frame's result then does not depend on
        which others, and how many, are encoded beside it.
        """
        found = []
        for start in range(0, len(rows), CHUNK):
            index = torch.arange(start, start + CHUNK, device=rows.device).clamp(max=len(rows) - 1)
            tokens = self._tokens(rows[index].unsqueeze(1)).squeeze(1)
            used = min(CHUNK, len(rows) - start)
            found.append([x[:used] for x in self.image(self.image.inputs(tokens), key[index], iterations)])
        slots, attn = (torch.cat(parts) for parts in zip(*found, strict=True))
        return slots, attn

    @torch.no_grad()
    def _frame_slots(self, clip: Clip) -> Tensor:
        """Slots b t k d of the frames of a clip in a video stage; the kept ones where there are any."""
        rows, b = _merged(self._rows(clip)), len(clip.key)
        if self.noise_seeds is None or clip.frames is None or clip.flipped is None:
            key = _merged(subkeys(clip.key, "frame", clip.valid.shape[1]))
            return rearrange(self._encode(rows, key)[0], "(b t) k d -> b t k d", b=b)
        self._forget_if_changed()
        draws = _draws(clip, self.noise_seeds)
        prints = rearrange(rows.float().contiguous(), "m ... -> m (...)").view(torch.int32)
        names = list(zip(draws, prints.sum(-1, dtype=torch.int64).tolist(), strict=True))
        known = {name: self.cache.get(name) for name in names}
        missing = [name for name, kept in known.items() if kept is None]
        if missing:
            where = [names.index(name) for name in missing]
            key = torch.tensor([seed_of("frame", *map(str, draw)) for draw, _ in missing])
            for name, found in zip(missing, self._encode(rows[where], key.to(rows.device))[0], strict=True):
                known[name] = found
                self.cache.keep(name, found)
        slots = torch.stack([given(known[name]).to(rows.device) for name in names])
        return rearrange(slots, "(b t) k d -> b t k d", b=b)

    def _forget_if_changed(self) -> None:
        """Slots are kept for the very weights they came from: of the backbone and the image level."""
        parameters = [*self.backbone.parameters(), *self.image.parameters()]
        now = [(p.data_ptr(), p._version) for p in parameters]
        if now != self._cached_for:
            self.cache.clear()
            self._cached_for = now


Draw = tuple[Hashable, ...]


def _draws(clip: Clip, noise_seeds: int) -> list[Draw]:
    """For every frame of every clip its video, number, mirroring, and which of its noises it has."""
    numbers, mirrored = given(clip.frames), given(clip.flipped)
    b, t = numbers.shape
    noise = (uniform(clip.key, "noise", (t,)) * noise_seeds).long().tolist()
    frames, flipped = numbers.tolist(), mirrored.tolist()
    return [(clip.names[i], frames[i][j], flipped[i], noise[i][j]) for i in range(b) for j in range(t)]


def _merged(x: Tensor) -> Tensor:
    return rearrange(x, "b t ... -> (b t) ...")


def _every_frame(slots: Tensor, length: int) -> Tensor:
    """Slots b k d of videos as those of each frame, b t k d."""
    return slots.unsqueeze(1).expand(-1, length, -1, -1)
