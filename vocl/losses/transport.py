"""What a patch belongs to, and what it belongs to where it has moved: agreement along transport plans."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Clip
from vocl.losses.reduction import mean_of_all
from vocl.ops.transport import sinkhorn, spread_mass, uniform_mass


class _Semantics(Protocol):
    semantic_logits: Tensor
    features: Tensor


class _Taught(_Semantics, Protocol):
    teacher: _Semantics


class TransportAlignment(nn.Module):
    """Dense semantic alignment L_sem (SMTC, eq. 8 and 9).

    For frames t and j of a clip, t != j, in both orders, with the student's probabilities p of t,
    the teacher's q of j, and a transport plan pi between the patches u of t and v of j:

        - sum over u, v, n of  pi[u, v]  q[n, v]  log(p[n, u] + `floor`)

    pi is of the teacher's features of both frames at cost 1 - cosine, by `rounds` of Sinkhorn-Knopp
    at the temperature `epsilon`. `marginal`: how much mass a patch has, "uniform" (paper) or "l1",
    in proportion to the L1 norm of its feature of length 1 (release). `reduction`: "mean" over pairs
    and clips (release), or "sum" over pairs and mean over clips (paper). `floor` 1e-8 in the
    release, 0 in the paper. Pairs of which a frame is padding do not count. `preset`: see the model.
    """

    needs: ClassVar[frozenset[str]] = frozenset(
        {"semantic_logits", "teacher.semantic_logits", "teacher.features"}
    )
    min_frames: ClassVar[int] = 2

    def __init__(
        self,
        *,
        preset: Literal["paper", "release"] | None,
        epsilon: Annotated[float, Ge(0.025)],  # float32 holds exp(-2 / epsilon)
        rounds: Annotated[int, Ge(1)],
        marginal: Literal["uniform", "l1"],
        floor: Annotated[float, Ge(0)],
        reduction: Literal["mean", "sum"],
    ) -> None:
        super().__init__()
        self.preset, self.floor, self.reduction = preset, floor, reduction
        self.epsilon, self.rounds = epsilon, rounds
        self.mass = uniform_mass if marginal == "uniform" else spread_mass

    def forward(self, output: _Taught, clip: Clip) -> Tensor:
        """Scalar, from `semantic_logits` b t N n of student and teacher, and the teacher's features."""
        logits, teacher, valid = output.semantic_logits.float(), output.teacher, clip.valid
        b, t = valid.shape
        if t < 2:
            raise UserError("dataset.clip_frames=1: loss.transport compares frames of a clip")
        logs = (logits.softmax(2) + self.floor).log() if self.floor else logits.log_softmax(2)
        target = teacher.semantic_logits.detach().float().softmax(2)
        unit = F.normalize(teacher.features.float(), dim=-1, eps=1e-12)
        total, count = logits.new_zeros(()), logits.new_zeros(())
        for step in range(1, t):  # frame j = t + step, cyclically: n n plans of all pairs at once are large
            plan = self.plan(unit, unit.roll(-step, dims=1))
            moved = target.roll(-step, dims=1) @ plan.transpose(-1, -2)  # b t N u
            losses = -(moved * logs).sum((2, 3))
            counts = valid & valid.roll(-step, dims=1)
            total = total + torch.where(counts, losses, 0).sum()
            count = count + counts.sum()
        return mean_of_all(total, count.clamp_min(1)) if self.reduction == "mean" else total / b

    def plan(self, here: Tensor, there: Tensor) -> Tensor:
        """Plans ... n m between vectors `here` ... n e and `there` ... m e of length 1, total mass 1."""
        cost = 1 - here @ there.transpose(-1, -2)
        return sinkhorn(cost, self.mass(here), self.mass(there), self.epsilon, self.rounds)
