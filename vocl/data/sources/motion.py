"""What is true of a sprite scene beside its masks: how every pixel moves, and what is in front of what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vocl.data.sources.sprites import BASE_PX, Scene


def flow(scene: Scene, labels: np.ndarray, indices: Sequence[int]) -> np.ndarray:
    """How far the surface under each pixel of frames `indices` moves until the video's next frame.

    `labels` t h w of those frames; returns t 2 h w float32, x first, in pixels. Exact, also where the
    goal is hidden or out of view; of the last frame it is the way since the one before.
    """
    side, last = labels.shape[-1], len(scene.gain) - 1
    at = np.arange(side) + 0.5
    x, y = np.broadcast_to(at[None, :], (side, side)), np.broadcast_to(at[:, None], (side, side))
    poses = _poses(scene, side / BASE_PX)
    out = np.zeros((len(labels), 2, side, side), np.float32)
    for place, (index, frame) in enumerate(zip(indices, labels, strict=True)):
        other = index + 1 if index < last else max(last - 1, 0)
        sign = 1 if other > index else -1
        for label, pose in enumerate(poses):
            seen = frame == label
            new_x, new_y = pose.moved(x[seen], y[seen], index, other)
            out[place, 0][seen] = sign * (new_x - x[seen])
            out[place, 1][seen] = sign * (new_y - y[seen])
    return out


def depth(scene: Scene, labels: np.ndarray) -> np.ndarray:
    """Which layer, counted from the front, each pixel of label maps t h w belongs to: t 1 h w float32.

    1 for the object that is painted last; the background is behind all of them.
    """
    number = len(scene.order)
    layers = np.full(number + 1, number + 1, np.float32)
    for behind, sprite in enumerate(scene.order):
        layers[sprite + 1] = number - behind
    return layers[labels][:, None]


@dataclass(frozen=True)
class _Pose:
    """A surface's path in pixels: `centre` t 2, `angle` t, `scale` t of its own coordinates."""

    centre: np.ndarray
    angle: np.ndarray
    scale: np.ndarray

    def moved(self, x: np.ndarray, y: np.ndarray, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Where what lies at (x, y) in frame `start` lies in frame `stop`."""
        point = (x + 1j * y - self._place(start)) / self._turn(start)
        found = point * self._turn(stop) + self._place(stop)
        return found.real, found.imag

    def _place(self, t: int) -> complex:
        return complex(*self.centre[t])

    def _turn(self, t: int) -> complex:
        return self.scale[t] * np.exp(1j * self.angle[t])


def _poses(scene: Scene, unit: float) -> list[_Pose]:
    """Of the background and of each sprite, by label; `unit`: pixels per unit of the scene."""
    camera = scene.camera
    turn = camera.zoom * np.exp(1j * camera.roll)
    pan = scene.background_parallax * (camera.pan @ np.array([1, 1j]))
    ground = BASE_PX / 2 * (1 + 1j) - turn * pan  # where the origin of its coordinates is
    surfaces = [(np.stack([ground.real, ground.imag], axis=-1), camera.roll, camera.zoom)]
    surfaces += [(sprite.centre, sprite.angle, sprite.scale) for sprite in scene.sprites]
    return [_Pose(centre * unit, angle, scale * unit) for centre, angle, scale in surfaces]
