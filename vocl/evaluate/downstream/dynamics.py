"""Object dynamics: masks of frames that the model has not seen, rolled out from those that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Le
from torch import Tensor

from vocl.errors import UserError
from vocl.evaluate.discovery import Discovery
from vocl.evaluate.masks.counts import means
from vocl.evaluate.protocol import refuse_clips
from vocl.evaluate.unroll import unroll
from vocl.interface import Grid, Source, Subject, Video
from vocl.metrics.contingency import TableMetric, contingency, score_video
from vocl.metrics.presence import AtFrames
from vocl.metrics.rollout import ReappearedIoU
from vocl.ops.masks import hard_masks
from vocl.ops.narrow import pair

KINDS = ("rollout", "copy", "encoder")
STEPS = (1, 2, 4, 8, 16)  # frames after the last that is seen


class Dynamics(Discovery):
    """Three predictions of the `horizon` frames after the first `burn_in` of a video, scored alike.

    `rollout_*`: the slots of the frames seen, rolled out by the model and decoded by its decoder. `copy_*`:
    the masks of the last frame seen, again and again: what a rollout must beat to have foretold anything.
    `encoder_*`: the model's masks of the very frames, which it is shown for this alone: what the rollout was
    trained to reach.

    `*_fg_ari`, `*_mbo`: of the horizon as one video, without the frames seen. `*_fg_ari_N`: of the Nth frame
    after those, alone. `*_reappeared_iou`: see `vocl.metrics.rollout`; rows count its chances. `horizon`
    null: to the end of each video. A video with fewer frames scores nothing, and its row says `num_foretold`
    0.

    SlotContrast scores rollouts of SlotFormer on its slots by the FG-ARI of their masks. No code of that is
    released, so `burn_in` and `horizon` are ours, as are the controls and the score of hidden objects.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "rollout", "truth"})
    scores: ClassVar[frozenset[str]] = frozenset(
        {
            "rollout_fg_ari",
            "rollout_mbo",
            "rollout_fg_ari_1",
            "rollout_fg_ari_2",
            "rollout_fg_ari_4",
            "rollout_fg_ari_8",
            "rollout_fg_ari_16",
            "rollout_reappeared_iou",
            "copy_fg_ari",
            "copy_mbo",
            "copy_fg_ari_1",
            "copy_fg_ari_2",
            "copy_fg_ari_4",
            "copy_fg_ari_8",
            "copy_fg_ari_16",
            "copy_reappeared_iou",
            "encoder_fg_ari",
            "encoder_mbo",
            "encoder_fg_ari_1",
            "encoder_fg_ari_2",
            "encoder_fg_ari_4",
            "encoder_fg_ari_8",
            "encoder_fg_ari_16",
            "encoder_reappeared_iou",
            "num_without_truth",
        }
    )

    def __init__(
        self,
        *,
        burn_in: Annotated[int, Ge(1)],
        horizon: Annotated[int, Ge(1)] | None,
        hidden: Annotated[float, Gt(0), Le(1)],
        seen: Annotated[float, Gt(0), Le(1)],
        **rest: Any,
    ) -> None:
        super().__init__(**rest)
        self.burn_in, self.horizon, self.hidden, self.seen = burn_in, horizon, hidden, seen
        refuse_clips(self.protocol, "rollouts")
        if hidden > seen:
            raise UserError(f"hidden={hidden}: an object is hidden below it, and seen from seen={seen} on")
        if self.options.cyclic:
            raise UserError("options.cyclic=true: the frames seen would know those to come; choose false")
        if self.options.masks == "attention":
            raise UserError(
                "options.masks=attention: what is rolled out has the decoder's; choose decoder or null"
            )

    def check(self, source: Source, where: str) -> None:
        """Also refuse a split all of whose videos are too short."""
        super().check(source, where)
        lengths = [source[i].length for i in range(min(len(source), self.max_videos or len(source)))]
        if not any(map(self._foretold, lengths)):
            raise UserError(
                f"{where}: videos have {max(lengths, default=0)} frames or fewer; burn_in={self.burn_in}, "
                f"horizon={self.horizon} ask for {self.burn_in + (self.horizon or 1)}"
            )

    def metrics(self) -> dict[str, TableMetric]:
        return {f"{kind}_{name}": metric for kind in KINDS for name, metric in self._metrics().items()}

    def combined(self, metrics: dict[str, TableMetric], makings: Sequence[Any]) -> dict[str, float]:
        return means(metrics, [])

    def _metrics(self) -> dict[str, TableMetric]:
        """The scores of one kind, of the counts of a whole video up to the horizon."""
        own, first = self.protocol.discovery_metrics, self.burn_in
        found: dict[str, TableMetric] = {
            "fg_ari": AtFrames(own()["video_fg_ari"], first=first, last=None),
            "mbo": AtFrames(own()["video_mbo"], first=first, last=None),
            "reappeared_iou": ReappearedIoU(
                first=first, hidden=self.hidden, seen=self.seen, pairs=self.protocol.pairs
            ),
        }
        for step in STEPS:
            at = first + step - 1
            found[f"fg_ari_{step}"] = AtFrames(own()["image_fg_ari"], first=at, last=at)
        return found

    def _foretold(self, length: int) -> int:
        """How many frames of a video of `length` are foretold."""
        left = max(length - self.burn_in, 0)
        return left if self.horizon is None else self.horizon * (left >= self.horizon)

    def _score(
        self, subject: Subject, video: Video, truth: Any, metrics: dict[str, TableMetric]
    ) -> tuple[dict[str, Any], Any]:
        true, contested = self.true_labels(subject, truth)
        row: dict[str, Any] = {}
        horizon = self._foretold(video.length)
        tables = self._tables(subject, video, true, len(truth.objects) + 1, horizon)
        for kind, table in tables.items():
            own = {name: metric for name, metric in metrics.items() if name.startswith(f"{kind}_")}
            row |= score_video(own, self.protocol.counted(table))
        return row | {"num_contested_points": contested, "num_foretold": horizon}, None

    def _tables(
        self, subject: Subject, video: Video, true: Tensor, num_classes: int, horizon: int
    ) -> Mapping[str, Tensor]:
        """Counts t c k of each kind; the frames seen are the encoder's in all of them."""
        if not horizon:
            return {kind: torch.zeros(0, num_classes, 2, dtype=torch.int64) for kind in KINDS}
        masks, slots, grid = self._encoded(subject, video, self.burn_in + horizon)
        rolled = subject.model.roll_out(slots[:, : self.burn_in], horizon)
        seen = masks[:, : self.burn_in]
        still = seen[:, -1:].expand(-1, horizon, -1, -1)
        found = {"rollout": (rolled.masks, rolled.grid), "copy": (still, grid), "encoder": (masks, grid)}
        first = self._counted(true, masks, grid, num_classes, range(self.burn_in))
        future = range(self.burn_in, self.burn_in + horizon)
        return {
            kind: torch.cat([first, self._counted(true, own[:, -horizon:], at, num_classes, future)])
            for kind, (own, at) in found.items()
        }

    def _encoded(self, subject: Subject, video: Video, length: int) -> tuple[Tensor, Tensor, Grid]:
        """Masks b t k n and slots b t k d of the first `length` frames, as the model sees them."""
        masks, slots, grid = [], [], None
        for frames, segments in unroll(subject, video, self.options, self.window):
            assert segments.slots is not None
            masks.append(segments.masks)
            slots.append(segments.slots)
            grid = segments.grid
            if frames.stop >= length:
                break
        assert grid is not None
        return torch.cat(masks, dim=1)[:, :length], torch.cat(slots, dim=1)[:, :length], grid

    def _counted(self, true: Tensor, masks: Tensor, grid: Grid, num_classes: int, frames: range) -> Tensor:
        """Counts t c k of `frames`, whose masks b t k n are given, `window` frames at a time."""
        first, number = self.protocol.pairs.first_slot, masks.shape[2]
        tables = []
        for start in range(0, len(frames), self.window):
            part = frames[start : start + self.window]
            labels = true[part.start : part.stop]
            found = hard_masks(masks[:, start : start + len(part)], grid, pair(labels.shape[-2:]))[0] + first
            tables.append(contingency(labels, found, num_classes, number + first))
        return torch.cat(tables)
