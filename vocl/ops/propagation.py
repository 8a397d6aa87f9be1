"""Labels of a video's first frame, carried on by the similarity of features (label propagation).

Letters: n cells of the label grid, e feature width, c label channels (background first), h w pixels.
Jabri, Owens and Efros, "Space-Time Correspondence as a Contrastive Random Walk", NeurIPS 2020, sec.
4; Caron et al., "Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021, sec. 4.2.2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt
from einops import rearrange
from torch import Tensor

from vocl.interface import Grid
from vocl.ops.narrow import pair

Size = tuple[int, int]

CHUNK = 2**24  # similarities held at a time


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How labels are carried on; published numbers differ in each of these.

    A cell of frame t looks at frame 0 and at the `previous` frames before t, takes the `topk` cells
    of highest cosine similarity among all of them jointly, and their labels weighted by the softmax
    of similarity / `temperature`. `ties`: cells that tie with the last of them count too.

    `window` limits the cells by their distance in cells: "circle" strictly nearer than `reach`,
    "square" at most `reach` apart along either axis. It limits frame 0 too if `first_windowed`; frame
    0 as one of the previous frames is always limited. `before`: what the previous frames are at the
    start of a video: "none" (frame 0 is not one of them), "first" (it is one), "repeated" (it is,
    and stands for every frame before it too).

    `short_px`: the short side of a frame as the model sees it, "native" (as it is) or "dataset"
    (exactly dataset.size_px). The long side is then cut down to a multiple of `multiple_px`, of a
    "native" frame the short side too. `stride_px`: the label grid has a cell for so many pixels of
    the frame before it was cut, features are interpolated (bilinear) to it; null: the features' own grid.

    `reduce`: how the given labels come to the grid: "bilinear" (not antialiased) or "nearest" (pixel
    centres). `enlarge`: labels are enlarged (bilinear) to the "truth" before the argmax, or to the
    "input", and to the truth by nearest after it. `stretch`: each channel to 0..1 over the frame
    before the argmax. `given_first`: frame 0's output is the given map, not the reduced one.
    """

    name: str
    previous: Annotated[int, Ge(0)]
    topk: Annotated[int, Ge(1)]
    temperature: Annotated[float, Gt(0)]
    ties: bool
    window: Literal["circle", "square"]
    reach: Annotated[float, Gt(0)]
    first_windowed: bool
    before: Literal["none", "first", "repeated"]
    short_px: int | Literal["native", "dataset"]
    multiple_px: Annotated[int, Ge(1)]
    stride_px: Annotated[int, Ge(1)] | None
    reduce: Literal["bilinear", "nearest"]
    enlarge: Literal["truth", "input"]
    stretch: bool
    given_first: bool

    def context(self, frame: int) -> Counter[tuple[int, bool]]:
        """(frame, whether the window limits it) -> how often it stands in the context of `frame`."""
        recent: Sequence[int] = range(frame - self.previous, frame)
        if self.before != "repeated":
            recent = [i for i in recent if i >= (1 if self.before == "none" else 0)]
        return Counter([(0, self.first_windowed), *((max(i, 0), True) for i in recent)])

    def sizes(self, native: tuple[int, int], dataset: tuple[int, int]) -> tuple[Size, Size]:
        """(height, width) of a frame before and after it is cut to multiples; the model sees the second."""
        if self.short_px == "dataset":
            return dataset, dataset
        if self.short_px == "native":
            return native, pair(side // self.multiple_px * self.multiple_px for side in native)
        scaled = pair(side * self.short_px // min(native) for side in native)
        cut = tuple(side // self.multiple_px * self.multiple_px for side in scaled)
        return scaled, pair(max(self.short_px, side) for side in cut)


class Propagation:
    """One video, frame by frame; keeps features and labels of the frames that are still looked at."""

    def __init__(self, rule: Rule, grid: Grid, device: torch.device) -> None:
        self.rule, self.frame = rule, 0
        inside = _window(grid, rule.window, rule.reach).to(device)
        self._outside = torch.zeros(inside.shape, device=device).masked_fill(~inside, -torch.inf)
        self._features: dict[int, Tensor] = {}
        self._labels: dict[int, Tensor] = {}

    def begin(self, features: Tensor, labels: Tensor) -> None:
        """Frame 0: features n e, and its soft labels c n on the grid."""
        assert self.frame == 0
        self._keep(F.normalize(features.float(), dim=1), labels.T)

    def next(self, features: Tensor) -> Tensor:
        """Soft labels c n of the next frame, from its features n e."""
        query = F.normalize(features.float(), dim=1)
        context = self.rule.context(self.frame)
        rows = max(1, CHUNK // (len(query) * len(context)))
        found = [
            self._labelled(cells, outside, context)
            for cells, outside in zip(query.split(rows), self._outside.split(rows), strict=True)
        ]
        labels = torch.cat(found)
        self._keep(query, labels)
        return labels.T

    def _labelled(self, query: Tensor, outside: Tensor, context: Counter[tuple[int, bool]]) -> Tensor:
        """Labels m c of the cells `query` m e; `outside` m n: -inf beyond the window of each."""
        similar = []
        for frame, windowed in context:
            similarity = (query @ self._features[frame].T).div_(self.rule.temperature)
            similar.append(similarity.add_(outside) if windowed else similarity)
        labels = [self._labels[frame] for frame, _ in context]
        counts = similar[0].new_tensor(list(context.values()))
        return (_with_ties if self.rule.ties else _of_best)(similar, labels, counts, self.rule.topk)

    def _keep(self, features: Tensor, labels: Tensor) -> None:
        self._features[self.frame], self._labels[self.frame] = features, labels
        self.frame += 1
        gone = self.frame - 1 - self.rule.previous
        if gone > 0:
            self._features.pop(gone, None)
            self._labels.pop(gone, None)


def _of_best(similar: list[Tensor], labels: list[Tensor], counts: Tensor, k: int) -> Tensor:
    """Mean m c of the `labels` (each n c) of exactly the k best cells, weighted by the softmax of their
    `similar` (each m n); a cell of frame i stands there `counts[i]` times."""
    values, order, cells, copies = _best(similar, counts, k)
    taken = (k - (copies.cumsum(1) - copies)).clamp(min=0).minimum(copies)
    weights = (values - values[:, :1]).exp() * taken
    candidates = torch.cat([own[found] for own, found in zip(labels, cells, strict=True)], dim=1)
    chosen = candidates.gather(1, order.unsqueeze(-1).expand(-1, -1, candidates.shape[-1]))
    return torch.einsum("mk,mkc->mc", weights / weights.sum(1, keepdim=True), chosen)


def _with_ties(similar: list[Tensor], labels: list[Tensor], counts: Tensor, k: int) -> Tensor:
    """As `_of_best`, of all cells that are at least as similar as the k-th best one."""
    values, _, _, copies = _best(similar, counts, k)
    last = (copies.cumsum(1) < k).sum(1, keepdim=True).clamp(max=values.shape[1] - 1)
    least, most = values.gather(1, last), values[:, :1]
    total, mean = values.new_zeros(len(values)), values.new_zeros(len(values), labels[0].shape[1])
    for similarity, own, count in zip(similar, labels, counts, strict=True):
        rows, cells = (similarity >= least).nonzero(as_tuple=True)
        weights = (similarity[rows, cells] - most[rows, 0]).exp() * count
        total.index_add_(0, rows, weights)
        mean.index_add_(0, rows, weights.unsqueeze(1) * own[cells])
    return mean / total.unsqueeze(1)


def _best(similar: list[Tensor], counts: Tensor, k: int) -> tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor]:
    """The k best cells of all frames: values m k, their places m k among the candidates, the candidates'
    cells (m k of each frame), and how often each of the best stands in the context, m k."""
    width = min(k, similar[0].shape[1])
    found = [similarity.topk(width, dim=1) for similarity in similar]
    values = torch.cat([one.values for one in found], dim=1)
    values, order = values.topk(min(k, values.shape[1]), dim=1)
    return values, order, tuple(one.indices for one in found), counts.repeat_interleave(width)[order]


def _window(grid: Grid, window: str, reach: float) -> Tensor:
    """Which cells each cell may look at: n n bool."""
    y, x = torch.meshgrid(torch.arange(grid.rows), torch.arange(grid.columns), indexing="ij")
    cells = rearrange(torch.stack([y, x]), "two r s -> (r s) two")
    apart = (cells.unsqueeze(1) - cells).abs()
    return apart.square().sum(-1) < reach**2 if window == "circle" else apart.amax(-1) <= reach


def to_grid(channels: Tensor, grid: Grid, reduce: str) -> Tensor:
    """Label channels c h w (0 or 1) on the grid, c n: "bilinear", or "nearest" by pixel centres."""
    if reduce == "nearest":
        small = F.interpolate(channels.unsqueeze(0), size=grid, mode="nearest-exact")
    else:
        small = F.interpolate(channels.unsqueeze(0), size=grid, mode="bilinear", align_corners=False)
    return rearrange(small, "1 c r s -> c (r s)")


def label_map(
    labels: Tensor, grid: Grid, size: tuple[int, int], true_size: tuple[int, int], stretch: bool
) -> Tensor:
    """Label map h w (int64) of `true_size` from soft labels c n: bilinear to `size`, argmax, nearest.

    `stretch`: each channel that is not empty to 0..1 over the frame first.
    """
    soft = rearrange(labels, "c (r s) -> 1 c r s", r=grid.rows)
    soft = F.interpolate(soft, size=size, mode="bilinear", align_corners=False)
    if stretch:
        low, high = soft.amin((2, 3), keepdim=True), soft.amax((2, 3), keepdim=True)
        soft = torch.where(high > low, (soft - low) / (high - low), soft)
    found = soft.max(dim=1, keepdim=True).indices
    if tuple(size) != tuple(true_size):
        found = F.interpolate(found.float(), size=true_size, mode="nearest-exact").long()
    return found[0, 0]
