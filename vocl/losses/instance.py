"""Instances of one semantics in two frames: the same ones alike, others apart."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from vocl.interface import Clip
from vocl.losses.reduction import mean_of_all
from vocl.ops.matching import best_matching


class _Objects(Protocol):
    objects: Tensor
    valid: Tensor


class _Taught(_Objects, Protocol):
    teacher: _Objects


class InstanceConsistency(nn.Module):
    """Instance representation consistency L_obj (SMTC, eq. 11 and 12).

    The P objects of each semantics n in the student's frame t are matched one to one with those in
    the teacher's frame j, for the highest total cosine. A valid object o of the student, whose match
    is m and which is to differ from the other objects q, has

        "cosine":  mean over q of relu(o . q - margin)  -  [m valid] o . m            (release)
        "l2":      [m valid] |o - m|  +  sum over q of relu(margin - |o - q|)         (paper)

    `unit`: scale objects to length 1 first. The release's head has done so already, which makes
    o . q a cosine; the paper does not say that it does, nor its margin (unit vectors at distance 1
    have cosine 0.5). `same_frame`: whether j = t counts too, two views of a frame (release).
    `reduction`: "mean" over the valid objects of the student in all pairs, 0 if there are none
    (release), or "sum" over all of a clip and mean over clips (paper). Pairs of which a frame is
    padding do not count. `preset`: see the model.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"objects", "valid", "teacher.objects", "teacher.valid"})

    def __init__(
        self,
        *,
        preset: Literal["paper", "release"] | None,
        form: Literal["cosine", "l2"],
        margin: Annotated[float, Ge(0)],
        unit: bool,
        same_frame: bool,
        reduction: Literal["mean", "sum"],
    ) -> None:
        super().__init__()
        self.preset, self.form, self.margin, self.unit = preset, form, margin, unit
        self.same_frame, self.reduction = same_frame, reduction

    def forward(self, output: _Taught, clip: Clip) -> Tensor:
        """Scalar, from `objects` b t N P d and `valid` b t N P of student and teacher."""
        ours, theirs = output.objects.float(), output.teacher.objects.float().detach()
        ours_unit, theirs_unit = (F.normalize(x, dim=-1, eps=1e-12) for x in (ours, theirs))
        with torch.no_grad():
            match = best_matching(products(ours_unit, theirs_unit))
        matched = F.one_hot(match, ours.shape[3]).bool()  # b t j n p q
        both = matched & output.teacher.valid[:, None, :, :, None, :]
        compared = (ours_unit, theirs_unit) if self.unit else (ours, theirs)
        form = self._cosine if self.form == "cosine" else self._l2
        terms = form(*compared, matched, both)
        counts = output.valid.unsqueeze(2) & self._pairs(clip.valid)[..., None, None]
        total = torch.where(counts, terms, 0).sum()
        if self.reduction == "sum":
            return total / len(ours)
        return mean_of_all(total, counts.sum() + 1e-10 * counts.numel())

    def _pairs(self, valid: Tensor) -> Tensor:
        """Pairs of frames that count, b t j."""
        pairs = valid.unsqueeze(2) & valid.unsqueeze(1)
        other = ~torch.eye(valid.shape[1], dtype=torch.bool, device=valid.device)
        return pairs if self.same_frame else pairs & other

    def _cosine(self, ours: Tensor, theirs: Tensor, matched: Tensor, both: Tensor) -> Tensor:
        """Terms b t j N P."""
        cosines = products(ours, theirs)
        others = max(cosines.shape[-1] - 1, 1)
        push = torch.where(matched, 0, F.relu(cosines - self.margin)).sum(-1) / others
        return push - torch.where(both, cosines, 0).sum(-1)

    def _l2(self, ours: Tensor, theirs: Tensor, matched: Tensor, both: Tensor) -> Tensor:
        """Terms b t j N P."""
        # Not through products of matrices: their rounding is large where two vectors nearly agree.
        exact = "donot_use_mm_for_euclid_dist"
        distances = torch.cdist(ours.unsqueeze(2), theirs.unsqueeze(1), compute_mode=exact)
        push = torch.where(matched, 0, F.relu(self.margin - distances)).sum(-1)
        return torch.where(both, distances, 0).sum(-1) + push


def products(ours: Tensor, theirs: Tensor) -> Tensor:
    """Products b t j N P P of the objects `ours` b t N P d in frame t and `theirs` b j N P d in frame j."""
    return torch.einsum("btnpd,bjnqd->btjnpq", ours, theirs)
