"""A distance of unordered sets: the Sinkhorn divergence, by geomloss."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from annotated_types import Gt, Lt
from einops import rearrange
from geomloss import SamplesLoss
from torch import Tensor, nn

from vocl.dist import gather_clips
from vocl.errors import UserError
from vocl.interface import Clip, Output
from vocl.ops.narrow import given


class SinkhornDivergence(nn.Module):
    """Sinkhorn divergence of what was reconstructed and its target, each frame a set of vectors.

    SH(a, b) = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 (Feydy et al., AISTATS 2019) of two sets with
    equal mass on every element; the cost of a pair is half its squared distance, summed over the
    channels; the temperature falls from the diameter's square to `blur`^2, its root by the factor
    `scaling` a round. Mean over the valid frames of all clips (Interpreter, eq. 2). Without `debias`
    it is OT(a, b). `mean_over_channels` divides by the width: with AdamW it matters to the clipping
    of gradients alone.

    In float32 under autocast: costs over temperature reach 1e6. They are computed from differences,
    for |x|^2 - 2 x.y + |y|^2 loses the digits of near points (and more of them in TF32). The diameter is
    that of the global batch, so that the number of processes changes nothing.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"recon", "target"})

    def __init__(
        self,
        *,
        blur: Annotated[float, Gt(0)],
        scaling: Annotated[float, Gt(0), Lt(1)],
        debias: bool,
        mean_over_channels: bool,
    ) -> None:
        super().__init__()
        self.blur, self.scaling, self.debias = blur, scaling, debias
        self.mean_over_channels = mean_over_channels

    def forward(self, output: Output, clip: Clip) -> Tensor:
        """Scalar, from `output.recon` and `output.target` b t n e: frames of n vectors."""
        if output.recon is None:
            raise UserError(
                "loss.sinkhorn_divergence: there is no reconstruction in this stage; name the terms that "
                "count in curriculum.stages.<name>.terms"
            )
        values = self.per_frame(output.recon, given(output.target))
        return torch.where(clip.valid, values, 0).sum() / clip.valid.sum()

    def per_frame(self, recon: Tensor, target: Tensor) -> Tensor:
        """Divergences b t of the sets `recon` and `target` b t n e."""
        kept = torch.set_grad_enabled(torch.is_grad_enabled())  # geomloss leaves gradients switched on
        with torch.autocast(recon.device.type, enabled=False), kept:
            x, y = (rearrange(s.float(), "b t n e -> (b t) n e") for s in (recon, target.detach()))
            divergence = SamplesLoss(
                "sinkhorn",
                p=2,
                blur=self.blur,
                scaling=self.scaling,
                diameter=diameter(x, y),
                cost=_half_squared_distance,
                debias=self.debias,
                backend="tensorized",
            )
            values = rearrange(divergence(x, y), "(b t) -> b t", b=len(recon))
        return values / x.shape[-1] if self.mean_over_channels else values


@torch.no_grad()
def diameter(x: Tensor, y: Tensor) -> float:
    """geomloss's bound on the distance of two points, those of all processes: the box's diagonal."""
    points = rearrange([x, y], "two m n e -> (two m n) e")
    extremes = torch.stack([points.amax(0), -points.amin(0)])
    top, bottom = gather_clips(extremes.unsqueeze(0)).amax(0)
    return float((top + bottom).norm())


def _half_squared_distance(x: Tensor, y: Tensor) -> Tensor:
    """Costs m n k of the points x m n e and y m k e."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square() / 2
