"""Rendering of sprite scenes: analytic shapes and textures, painted back to front, with exact masks.

A scene (drawn in `vocl.data.sources.scenes`) is described in units of a frame of `BASE_PX` pixels,
so the same scene can be rendered at any size. Letters: k objects, t frames, h w pixels, s the side
of the window that an object is evaluated in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from einops import rearrange

BASE_PX = 48  # side of the frame that all lengths of a level and of a scene refer to
SHAPES = ("ellipse", "box", "triangle", "blob")
REACH = 1.3  # no shape reaches further from its centre than this many radii

Pattern = Literal["shade", "stripes", "checker", "noise"]


@dataclass(frozen=True, kw_only=True)
class Level:
    """The constants of a level of difficulty; lengths in pixels of a 48 px frame, ranges inclusive."""

    num_objects: tuple[int, int]
    radius_px: tuple[float, float]
    max_speed_px: float  # per frame
    max_spin_rad: float  # per frame
    max_growth: float  # relative change of an object's size, up or down, over the video
    patterns: tuple[Pattern, ...]  # of the objects
    background: tuple[Pattern, ...]
    spaced_hues: bool  # True: one saturated hue per object on grey; False: any colours anywhere
    contrast: float  # between the two colours of an object's pattern
    background_contrast: float
    pan_px: float  # camera path over the whole video, as are roll and zoom
    roll_rad: float
    zoom: float
    drift: float  # relative change of the brightness, from its mean to either end of the video
    twins: bool  # two objects of every scene look the same
    occlusion_share: float  # of the scenes: one object (a twin) is hidden for 3 frames or more
    crossing_share: float  # of the objects free to: it enters, leaves, or leaves and returns


LEVELS = {
    "easy": Level(
        num_objects=(2, 3),
        radius_px=(9.0, 14.0),
        max_speed_px=3.0,
        max_spin_rad=0.2,
        max_growth=0.0,
        patterns=("shade",),
        background=("shade",),
        spaced_hues=True,
        contrast=0.15,
        background_contrast=0.15,
        pan_px=0.0,
        roll_rad=0.0,
        zoom=0.0,
        drift=0.0,
        twins=False,
        occlusion_share=0.0,
        crossing_share=0.0,
    ),
    "medium": Level(
        num_objects=(3, 5),
        radius_px=(7.0, 12.0),
        max_speed_px=3.0,
        max_spin_rad=0.2,
        max_growth=0.25,
        patterns=("stripes", "checker", "noise"),
        background=("shade", "noise"),
        spaced_hues=False,
        contrast=0.6,
        background_contrast=0.3,
        pan_px=0.0,
        roll_rad=0.0,
        zoom=0.0,
        drift=0.0,
        twins=False,
        occlusion_share=0.0,
        crossing_share=0.0,
    ),
    "hard": Level(
        num_objects=(3, 8),
        radius_px=(5.0, 11.0),
        max_speed_px=3.0,
        max_spin_rad=0.2,
        max_growth=0.25,
        patterns=("stripes", "checker", "noise"),
        background=("stripes", "checker", "noise"),
        spaced_hues=False,
        contrast=0.6,
        background_contrast=0.6,
        pan_px=6.0,
        roll_rad=0.15,
        zoom=0.15,
        drift=0.2,
        twins=True,
        occlusion_share=0.5,
        crossing_share=0.4,
    ),
}


@dataclass(frozen=True)
class Texture:
    """A pattern between two colours: sine waves over the surface, hardened or added up."""

    pattern: Pattern
    colours: np.ndarray  # 2 3, in 0..1
    waves: np.ndarray  # number 2, radians per unit of length along x and y
    phases: np.ndarray  # number


@dataclass(frozen=True)
class Look:
    """What an object looks like, whatever it does. Twins share one."""

    shape: str
    aspect: float
    radius: float
    harmonics: np.ndarray  # 3 2: amplitude, phase of the blob's harmonics 2, 3 and 5
    texture: Texture


@dataclass(frozen=True)
class Sprite:
    """An object as the camera sees it: `centre` t 2 (x, y), `angle` t, `scale` t."""

    look: Look
    centre: np.ndarray
    angle: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Camera:
    """`pan` t 2, `roll` t in radians, `zoom` t. A surface of `parallax` 1 moves by the whole pan."""

    pan: np.ndarray
    roll: np.ndarray
    zoom: np.ndarray

    @property
    def still(self) -> bool:
        """Whether the camera does not move."""
        return not (self.pan.any() or self.roll.any() or (self.zoom != 1).any())


@dataclass(frozen=True)
class Scene:
    """All there is to render. Object i has the label i + 1; `order` paints from back to front."""

    sprites: tuple[Sprite, ...]
    order: tuple[int, ...]
    background: Texture
    background_parallax: float
    camera: Camera
    gain: np.ndarray  # t


@dataclass(frozen=True)
class Rendering:
    """`frames` t h w 3 uint8, `labels` t h w uint8 (0 background), `extent` k t.

    `extent` counts the pixels in the frame that an object would have if nothing hid it: 0 when it
    is out of view; where it is not 0 and the label is absent, the object is fully occluded.
    """

    frames: np.ndarray
    labels: np.ndarray
    extent: np.ndarray

    @property
    def num_bytes(self) -> int:
        """Memory held."""
        return self.frames.nbytes + self.labels.nbytes + self.extent.nbytes


def render(scene: Scene, size_px: int) -> Rendering:
    """The frames of `scene` at `size_px` x `size_px` pixels, and its masks from the same geometry.

    A pixel is an object's where the coverage of the front-most object over it exceeds one half.
    """
    unit = size_px / BASE_PX
    num_frames = len(scene.gain)
    canvas = np.empty((num_frames, 3, size_px, size_px), np.float32)
    canvas[:] = _background(scene, size_px, unit)
    labels = np.zeros((num_frames, size_px, size_px), np.uint8)
    extent = np.zeros((len(scene.sprites), num_frames), np.int32)
    for index in scene.order:
        _paint(canvas, labels, extent[index], scene.sprites[index], index + 1, unit)
    canvas *= 255 * rearrange(scene.gain.astype(np.float32), "t -> t 1 1 1")
    pixels = np.clip(np.rint(canvas, out=canvas), 0, 255, out=canvas).astype(np.uint8)
    frames = np.ascontiguousarray(rearrange(pixels, "t c h w -> t h w c"))
    for array in (frames, labels, extent):
        array.setflags(write=False)  # they are shared by all who read the video
    return Rendering(frames, labels, extent)


def _background(scene: Scene, size_px: int, unit: float) -> np.ndarray:
    """The background seen by the camera: t c h w, or c h w if the camera stands still."""
    offset = ((np.arange(size_px) + 0.5) / unit - BASE_PX / 2).astype(np.float32)
    if scene.camera.still:
        return _colour(scene.background, offset[None, :], offset[:, None])
    camera = scene.camera
    cos, sin = (rearrange(f(camera.roll) / camera.zoom, "t -> t 1 1") for f in (np.cos, np.sin))
    pan = rearrange(camera.pan * scene.background_parallax, "t d -> d t 1 1").astype(np.float32)
    cos, sin = cos.astype(np.float32), sin.astype(np.float32)
    x, y = offset[None, None, :], offset[None, :, None]
    return _colour(scene.background, cos * x + sin * y + pan[0], cos * y - sin * x + pan[1])


def _paint(
    canvas: np.ndarray, labels: np.ndarray, extent: np.ndarray, sprite: Sprite, label: int, unit: float
) -> None:
    """Draw a sprite over `canvas` t c h w and `labels` t h w, and count its pixels in `extent` t.

    Only a window around the object is evaluated, for all frames at once.
    """
    side = labels.shape[-1]
    centre, scale = sprite.centre * unit, sprite.scale * unit  # scale: pixels per unit of the scene
    half = math.ceil(REACH * sprite.look.radius * float(scale.max())) + 1
    origin = np.floor(centre).astype(int) - half
    span = np.arange(2 * half + 1) + 0.5
    dx = (rearrange(origin[:, 0] - centre[:, 0], "t -> t 1 1") + span[None, None, :]).astype(np.float32)
    dy = (rearrange(origin[:, 1] - centre[:, 1], "t -> t 1 1") + span[None, :, None]).astype(np.float32)
    cos, sin = (rearrange(f(sprite.angle) / scale, "t -> t 1 1").astype(np.float32) for f in (np.cos, np.sin))
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    inside = _distance(sprite.look, u, v) * rearrange(scale, "t -> t 1 1").astype(np.float32)
    alpha = np.clip(inside + 0.5, 0, 1)
    colour = _colour(sprite.look.texture, u, v)
    for t, (left, top) in enumerate(origin):
        (rows, inner_rows), (columns, inner_columns) = (_clip(int(i), len(span), side) for i in (top, left))
        crop = (inner_rows, inner_columns)
        region = canvas[t, :, rows, columns]
        region += alpha[t][crop] * (colour[t, :, *crop] - region)
        solid = inside[t][crop] > 0
        labels[t, rows, columns][solid] = label
        extent[t] = solid.sum()


def _clip(start: int, length: int, side: int) -> tuple[slice, slice]:
    """The part of a window that lies in the frame: in the frame's and in the window's indices."""
    low = min(max(start, 0), side)
    high = max(min(start + length, side), low)  # empty where they do not meet
    return slice(low, high), slice(low - start, high - start)


def _distance(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """How deep a point lies inside the shape (negative outside): exact in sign, about so in value."""
    radius, aspect = np.float32(look.radius), np.float32(look.aspect)
    match look.shape:
        case "ellipse":
            return radius - np.sqrt(u * u + (v / aspect) ** 2)
        case "box":
            return np.minimum(0.8 * radius - np.abs(u), 0.8 * aspect * radius - np.abs(v))
        case "triangle":
            slant = np.float32(math.sqrt(0.75)) * np.abs(u) - 0.5 * v
            return 0.6 * radius - np.maximum(slant, v)
        case "blob":
            return _blob(look, u, v)
    raise AssertionError(look.shape)


def _blob(look: Look, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A circle with a wavy rim; the harmonics are powers of the unit vector, not of an angle."""
    length = np.sqrt(u * u + v * v) + np.float32(1e-6)
    z = (u + 1j * v) / length
    rim = np.full_like(u, 0.9)
    square = z * z
    cube = square * z
    for power, (amplitude, phase) in zip((square, cube, square * cube), look.harmonics, strict=True):
        rim += np.float32(amplitude * math.cos(phase)) * power.real
        rim -= np.float32(amplitude * math.sin(phase)) * power.imag
    return np.float32(look.radius) * rim - length


def _colour(texture: Texture, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The colour ... c h w of a surface at the coordinates ... h w (which broadcast)."""
    waves, phases = texture.waves.astype(np.float32), texture.phases.astype(np.float32)
    sines = [np.sin(wx * x + wy * y + phase) for (wx, wy), phase in zip(waves, phases, strict=True)]
    match texture.pattern:
        case "shade":
            wave = sines[0]
        case "stripes":
            wave = np.clip(2.5 * sines[0], -1, 1)
        case "checker":
            wave = np.clip(4 * sines[0] * sines[1], -1, 1)
        case "noise":
            wave = np.clip(sum(sines) / np.float32(math.sqrt(len(sines))), -1, 1)
    first, second = (rearrange(c.astype(np.float32), "c -> c 1 1") for c in texture.colours)
    return first + rearrange(0.5 + 0.5 * wave, "... h w -> ... 1 h w") * (second - first)
