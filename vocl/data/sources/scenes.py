"""Drawing sprite scenes at random: looks, paths, the camera, and the roles that make a scene hard.

Coordinates are pixels of a frame of `BASE_PX`, from its centre, x to the right and y down, in the
world; the camera's view of them is what a `Sprite` holds. Letters: t frames.
"""

from __future__ import annotations

import colorsys
import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vocl.data.sources.sprites import BASE_PX, SHAPES, Camera, Level, Look, Pattern, Scene, Sprite, Texture

MIN_HIDING_FRAMES = 5  # shorter videos have no room for 3 hidden frames with a visible one on either side
NUM_NOISE_WAVES = 5
NUM_TRIES = 2  # places tried for an object: more would leave the middle empty and little to occlude
GREY = (0.35, 0.6)  # brightness of the background of a level of spaced hues


class Draw:
    """Random numbers that depend on a text alone.

    Only uniform numbers are taken from numpy: its other distributions may change their streams
    from one version to the next, and with them every scene.
    """

    def __init__(self, text: str) -> None:
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        self._random = np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little"))).random

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._random()

    def uniforms(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Numbers in [low, high), float64 of `shape`."""
        return low + (high - low) * self._random(shape)

    def integer(self, low: int, high: int) -> int:
        """An integer from `low` to `high`, both possible."""
        return low + int(self._random() * (high - low + 1))

    def order(self, number: int) -> list[int]:
        """A permutation of 0 .. number - 1."""
        return [int(i) for i in np.argsort(self._random(number), kind="stable")]

    def sign(self) -> float:
        """-1 or 1."""
        return 1.0 if self._random() < 0.5 else -1.0

    def chance(self, share: float) -> bool:
        """True with probability `share`."""
        return bool(self._random() < share)

    def direction(self) -> np.ndarray:
        """A unit vector x, y."""
        angle = self.uniform(0, 2 * np.pi)
        return np.array([np.cos(angle), np.sin(angle)])


@dataclass(frozen=True)
class Body:
    """An object in the world: `centre` t 2, `angle` t, `scale` t."""

    look: Look
    centre: np.ndarray
    angle: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Roles:
    """Which objects do what: `hider` covers `hidden`; `twins` look the same; None where nobody does."""

    twins: tuple[int, int] | None
    hider: int | None
    hidden: int | None


def draw_scene(level: Level, text: str, num_frames: int) -> Scene:
    """The scene of `num_frames` frames that `text` stands for, at `level`."""
    draw = Draw(text)
    number = draw.integer(*level.num_objects)
    roles = _roles(level, draw, number, num_frames)
    looks = _looks(level, draw, number, roles)
    starts = _starts(draw, looks)
    bodies = [_body(level, draw, look, start, num_frames) for look, start in zip(looks, starts, strict=True)]
    order = draw.order(number)
    for index in range(number):
        if index not in (roles.hider, roles.hidden) and draw.chance(level.crossing_share):
            bodies[index] = _crossing(level, draw, bodies[index])
    depth = dict(zip(order, np.linspace(0.7, 1.3, number), strict=True))  # as parallax: the nearer the more
    if roles.hider is not None and roles.hidden is not None:
        bodies[roles.hider], bodies[roles.hidden] = _hiding(draw, bodies[roles.hider], bodies[roles.hidden])
        order.remove(roles.hidden)
        order.insert(order.index(roles.hider), roles.hidden)  # just behind it, and moving with it
        depth[roles.hidden] = depth[roles.hider]
    camera = _camera(level, draw, num_frames)
    return Scene(
        sprites=tuple(_seen(body, camera, depth[index]) for index, body in enumerate(bodies)),
        order=tuple(order),
        background=_background(level, draw),
        background_parallax=0.5,
        camera=camera,
        gain=1 + level.drift * draw.uniform(0.5, 1) * draw.sign() * 2 * _time(num_frames),
    )


def _time(num_frames: int) -> np.ndarray:
    """-1/2 in the first frame to 1/2 in the last; 0 if it is the only one."""
    return np.linspace(-0.5, 0.5, num_frames) if num_frames > 1 else np.zeros(1)


def _roles(level: Level, draw: Draw, number: int, num_frames: int) -> Roles:
    hider, hidden, other = draw.order(max(number, 3))[:3]
    hiding = draw.chance(level.occlusion_share) and num_frames >= MIN_HIDING_FRAMES
    if not level.twins:
        return Roles(None, None, None)
    # A twin is the one to be hidden: only memory can tell which of the two comes back.
    return Roles((hidden, other), hider if hiding else None, hidden if hiding else None)


def _looks(level: Level, draw: Draw, number: int, roles: Roles) -> list[Look]:
    first_hue = draw.uniform(0, 1)
    looks = []
    for index in range(number):
        hue = first_hue + (index + draw.uniform(-0.15, 0.15)) / number
        colours = _vivid(level, draw, hue) if level.spaced_hues else _any_colours(draw, level.contrast)
        pattern = level.patterns[draw.integer(0, len(level.patterns) - 1)]
        looks.append(
            Look(
                shape=SHAPES[draw.integer(0, len(SHAPES) - 1)],
                aspect=draw.uniform(0.7, 1),
                radius=draw.uniform(*level.radius_px),
                harmonics=np.stack([draw.uniforms(0, 0.13, 3), draw.uniforms(0, 2 * np.pi, 3)], axis=-1),
                texture=_texture(draw, pattern, colours),
            )
        )
    if roles.hider is not None and roles.hidden is not None:
        # The one is made large and compact, the other small: it fits behind in any pose.
        shape: Literal["ellipse", "box"] = "ellipse" if draw.chance(0.5) else "box"
        radius, aspect = level.radius_px[1] + draw.uniform(1, 2), draw.uniform(0.9, 1)
        looks[roles.hider] = replace(looks[roles.hider], shape=shape, radius=radius, aspect=aspect)
        small = level.radius_px[0] + draw.uniform(0, 1)
        looks[roles.hidden] = replace(looks[roles.hidden], radius=small)
    if roles.twins is not None:
        looks[roles.twins[1]] = looks[roles.twins[0]]
    return looks


def _vivid(level: Level, draw: Draw, hue: float) -> np.ndarray:
    """Two shades 2 3 of a saturated hue."""
    base = np.array(colorsys.hsv_to_rgb(hue % 1, draw.uniform(0.65, 0.9), draw.uniform(0.7, 0.87)))
    return np.stack([base * (1 - level.contrast), base * (1 + level.contrast)])


def _any_colours(draw: Draw, contrast: float) -> np.ndarray:
    """Two colours 2 3, the second `contrast` of the way to one unrelated to the first."""
    first, other = (
        np.array(colorsys.hsv_to_rgb(draw.uniform(0, 1), draw.uniform(0.2, 0.9), draw.uniform(0.3, 0.95)))
        for _ in range(2)
    )
    return np.stack([first, first + contrast * (other - first)])


def _texture(draw: Draw, pattern: Pattern, colours: np.ndarray) -> Texture:
    """A texture with waves of 6 to 14 px."""
    number = {"shade": 1, "stripes": 1, "checker": 2, "noise": NUM_NOISE_WAVES}[pattern]
    waves = np.stack([draw.direction() for _ in range(number)])
    waves *= 2 * np.pi / draw.uniforms(6, 14, number, 1)
    if pattern == "checker":
        waves[1] = waves[0, ::-1] * (-1, 1)  # square to the first
    return Texture(pattern, colours, waves, draw.uniforms(0, 2 * np.pi, number))


def _background(level: Level, draw: Draw) -> Texture:
    pattern = level.background[draw.integer(0, len(level.background) - 1)]
    if not level.spaced_hues:
        return _texture(draw, pattern, _any_colours(draw, level.background_contrast))
    grey = draw.uniform(*GREY)
    shades = grey * (1 + level.background_contrast * np.array([-1.0, 1.0]))
    texture = _texture(draw, pattern, np.repeat(shades[:, None], 3, axis=1))
    return replace(texture, waves=texture.waves / 2)


def _starts(draw: Draw, looks: list[Look]) -> list[np.ndarray]:
    """First centres: each the best of a few tries at keeping clear of those before it."""
    starts: list[np.ndarray] = []
    for look in looks:
        tries = draw.uniforms(-1, 1, NUM_TRIES, 2) * _room(look)
        if not starts:
            starts.append(tries[0])
            continue
        gaps = [
            min(np.hypot(*(place - other)) - seen.radius for other, seen in zip(starts, looks, strict=False))
            for place in tries
        ]
        starts.append(tries[int(np.argmax(gaps))])
    return starts


def _room(look: Look) -> float:
    """How far from the middle the walls are for the centre of an object: most of it stays inside."""
    return BASE_PX / 2 - 0.75 * look.radius


def _body(level: Level, draw: Draw, look: Look, start: np.ndarray, num_frames: int) -> Body:
    """An object that drifts, turns and grows evenly, and bounces off the walls."""
    frames = np.arange(num_frames)
    velocity = draw.direction() * draw.uniform(0.2, 1) * level.max_speed_px
    room = _room(look)
    way = np.mod(start + room + frames[:, None] * velocity, 4 * room)
    return Body(
        look=look,
        centre=room - np.abs(way - 2 * room),
        angle=draw.uniform(0, 2 * np.pi) + frames * draw.uniform(-1, 1) * level.max_spin_rad,
        scale=1 + 2 * level.max_growth * draw.uniform(-1, 1) * _time(num_frames),
    )


def _crossing(level: Level, draw: Draw, body: Body) -> Body:
    """The same object on a path through the frame's edge: it enters, leaves, or does one after the other."""
    time = _time(len(body.centre)) + 0.5
    kind = draw.integer(0, 2)
    smooth = time * time * (3 - 2 * time)
    share = (smooth, 1 - smooth, np.minimum(1, 1.2 * np.sin(np.pi * time)))[kind]
    axis = np.eye(2)[draw.integer(0, 1)] * draw.sign()
    inner = draw.uniforms(-0.25, 0.25, 2) * BASE_PX
    clear = BASE_PX / 2 / (1 - level.zoom) + level.pan_px + 1.5 * body.look.radius
    outer = inner + axis * (clear - axis @ inner)
    return replace(body, centre=inner + share[:, None] * (outer - inner))


def _hiding(draw: Draw, hider: Body, hidden: Body) -> tuple[Body, Body]:
    """Paths on which `hidden` goes behind `hider`, stays there for 3 frames or more, and comes out."""
    num_frames = len(hider.centre)
    frames = np.arange(num_frames)
    steady = np.ones(num_frames)
    centre = (
        draw.uniforms(-5, 5, 2) + frames[:, None] * draw.direction() * draw.uniform(0.2, 1) * 8 / num_frames
    )
    middle = draw.integer(2, num_frames - 3)
    stay = max(1.0, num_frames / 16)  # to either side of the middle
    away = np.abs(frames - middle) - stay
    away = np.clip(away / max(1.0, (num_frames - 1) / 2 - stay), 0, 1) * np.sign(frames - middle)
    reach = hider.look.radius + hidden.look.radius
    path = centre + reach * away[:, None] * draw.direction()
    return replace(hider, centre=centre, scale=steady), replace(hidden, centre=path, scale=steady)


def _camera(level: Level, draw: Draw, num_frames: int) -> Camera:
    """An even path of at least half of what the level allows; pan, roll and zoom are independent."""
    time = 2 * _time(num_frames)
    size = draw.uniforms(0.5, 1, 3)
    return Camera(
        pan=time[:, None] * draw.direction() * level.pan_px * size[0],
        roll=time * level.roll_rad * size[1] * draw.sign(),
        zoom=1 + time * level.zoom * size[2] * draw.sign(),
    )


def _seen(body: Body, camera: Camera, parallax: float) -> Sprite:
    """An object as the camera sees it."""
    x, y = (body.centre - parallax * camera.pan).T
    cos, sin = np.cos(camera.roll) * camera.zoom, np.sin(camera.roll) * camera.zoom
    centre = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1) + BASE_PX / 2
    return Sprite(body.look, centre, body.angle + camera.roll, body.scale * camera.zoom)
