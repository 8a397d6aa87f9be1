"""Masks that need no slots: what a method has to beat, scored by the very same evaluations."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge
from einops import rearrange
from torch import Tensor, nn

from vocl import dist
from vocl.interface import Backbone, Clip, Features, Grid, Output, SegmentOptions, Segments, VideoModel
from vocl.models.backbone_only import BackboneOnly
from vocl.ops.clustering import kmeans, nearest, spread_points
from vocl.ops.narrow import given
from vocl.ops.random import generator


class Rectangles(BackboneOnly):
    """The frame cut into `rows` x `columns` rectangles, the same in every frame; 1 x 1 is one label."""

    answers: ClassVar[frozenset[str]] = frozenset({"masks", "embed"})
    any_size: ClassVar[frozenset[str]] = frozenset({"masks", "embed"})

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        rows: Annotated[int, Ge(1)],
        columns: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__(backbone, frame_px)
        self.cells = Grid(rows, columns)

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        """Each patch belongs to the rectangle that its first pixel lies in."""
        grid = self.encode(clip).grid
        row = torch.arange(grid.rows) * self.cells.rows // grid.rows
        column = torch.arange(grid.columns) * self.cells.columns // grid.columns
        labels = rearrange(row.unsqueeze(1) * self.cells.columns + column, "r s -> (r s)")
        masks = _one_hot(labels.to(clip.valid.device), self.cells.rows * self.cells.columns)
        return Segments(masks.expand(*clip.valid.shape, -1, -1), grid)


class VideoKMeans(BackboneOnly):
    """k-means of a video's own features: all patches of its frames together, whatever their place.

    Fitted to the first window of a video, and carried on: give whole videos where they fit. Drawn
    from the clip's key (k-means++), then `iterations` rounds of Lloyd's algorithm, the best of
    `restarts` tries.
    """

    answers: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "embed"})
    any_size: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "embed"})

    def __init__(
        self,
        backbone: Backbone,
        frame_px: tuple[int, int],
        *,
        num_slots: Annotated[int, Ge(1)],
        iterations: Annotated[int, Ge(1)],
        restarts: Annotated[int, Ge(1)],
    ) -> None:
        super().__init__(backbone, frame_px)
        self.num_slots, self.iterations, self.restarts = num_slots, iterations, restarts

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Tensor | None = None) -> Segments:
        """The carry is the centroids b k e."""
        features = self.encode(clip)
        if carry is None:
            carry = torch.stack([self._fit(*video) for video in zip(features.tokens, clip.key, strict=True)])
        return _assigned(features, carry)

    def _fit(self, tokens: Tensor, key: Tensor) -> Tensor:
        points = rearrange(tokens.float(), "t n e -> (t n) e")
        draw = generator(int(key), "centroids")
        return kmeans(points, self.num_slots, self.iterations, self.restarts, draw)


class SplitKMeans(VideoModel):
    """One k-means for all videos: the centroids are learned on the training split.

    Trained by `vocl.losses.reconstruction.FeatureMSE`, whose gradient moves each centroid towards the
    features that are nearest to it: k-means by stochastic gradient descent (Bottou and Bengio,
    "Convergence Properties of the K-Means Algorithms", NIPS 1994). The centroids start from the
    features of the first step's batch (k-means++), once that step is done.
    """

    provides: ClassVar[frozenset[str]] = frozenset({"slots", "attn", "features", "target", "recon", "masks"})
    answers: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "embed"})
    any_size: ClassVar[frozenset[str]] = frozenset({"masks", "slots", "embed"})
    reads_features: ClassVar[bool] = True
    reads_video = False

    def __init__(
        self, backbone: Backbone, frame_px: tuple[int, int], *, num_slots: Annotated[int, Ge(1)]
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.centroids = nn.Parameter(torch.randn(num_slots, backbone.dim))
        self._first: tuple[Tensor, Tensor] | None = None

    def forward(self, clip: Clip) -> Output:
        features = self.encode(clip)
        tokens = features.tokens.detach()
        self._first = (rearrange(tokens.float(), "b t n e -> (b t n) e"), clip.key[0])
        found = _assigned(features, self.centroids.expand(len(tokens), -1, -1))
        recon = torch.einsum("btkn,ke->btne", found.masks, self.centroids)
        return Output(
            slots=given(found.slots),
            attn=found.masks,
            grid=features.grid,
            features=features.tokens,
            target=tokens,
            recon=recon,
            masks=found.masks,
            keys=features.keys,
        )

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Start the centroids from the first batch: that of the first rank, for all ranks alike."""
        if step == 0:
            points, key = given(self._first)
            own = spread_points(points, len(self.centroids), generator(int(key), "centroids"))
            self.centroids.copy_(dist.gather_objects(own.cpu())[0])
        self._first = None

    @torch.no_grad()
    def segment(self, clip: Clip, options: SegmentOptions, carry: Any = None) -> Segments:
        features = self.encode(clip)
        return _assigned(features, self.centroids.expand(len(features.tokens), -1, -1))

    def embed(self, clip: Clip) -> Tensor:
        return self.encode(clip).tokens


def _assigned(features: Features, centroids: Tensor) -> Segments:
    """Each patch to the nearest of its clip's `centroids` b k e, which are the slots and the carry."""
    tokens = features.tokens.detach().float()
    points = rearrange(tokens, "b t n e -> b (t n) e")
    labels = rearrange(nearest(points, centroids.detach()), "b (t n) -> b t n", t=tokens.shape[1])
    slots = centroids.unsqueeze(1).expand(-1, tokens.shape[1], -1, -1)
    masks = _one_hot(labels, centroids.shape[1])
    return Segments(masks, features.grid, slots=slots, carry=centroids)


def _one_hot(labels: Tensor, count: int) -> Tensor:
    """Masks ... k n from labels ... n."""
    return rearrange(F.one_hot(labels, count).float(), "... n k -> ... k n")
