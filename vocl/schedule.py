"""Schedules: pure functions of a step. Those of a learning rate begin with a linear warm-up."""

from __future__ import annotations

import math
from typing import Annotated

from annotated_types import Ge, Gt, Le

from vocl.config.build import Part
from vocl.errors import UserError
from vocl.interface import Schedule


class Constant(Schedule):
    """1 after the warm-up."""

    def __init__(self, total_steps: int, *, warmup_steps: Annotated[int, Ge(0)]) -> None:
        self.total_steps, self.warmup_steps = total_steps, warmup_steps

    def __call__(self, step: int) -> float:
        return step / self.warmup_steps if step < self.warmup_steps else self.after_warmup(step)

    def after_warmup(self, step: int) -> float:
        return 1.0

    def progress(self, step: int) -> float:
        """0 at the end of the warm-up, 1 at the last step."""
        return (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)


class HalfLife(Constant):
    """Halved over the run after the warm-up: 0.5 ** progress (VideoSAUR, SlotContrast).

    The first update has rate 0, as in the release; the last half the peak.
    """

    def after_warmup(self, step: int) -> float:
        return 0.5 ** self.progress(step)


class Cosine(Constant):
    """Half a cosine from 1 down to `floor`."""

    def __init__(
        self, total_steps: int, *, warmup_steps: Annotated[int, Ge(0)], floor: Annotated[float, Ge(0), Le(1)]
    ) -> None:
        super().__init__(total_steps, warmup_steps=warmup_steps)
        self.floor = floor

    def after_warmup(self, step: int) -> float:
        return self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(self.progress(step), 1.0)))


class HalfLifeEvery(Constant):
    """Halved every `half_life_steps` after the warm-up, however long the run is (DINOSAUR)."""

    def __init__(
        self, total_steps: int, *, warmup_steps: Annotated[int, Ge(0)], half_life_steps: Annotated[int, Ge(1)]
    ) -> None:
        super().__init__(total_steps, warmup_steps=warmup_steps)
        self.half_life_steps = half_life_steps

    def after_warmup(self, step: int) -> float:
        return 0.5 ** ((step - self.warmup_steps) / self.half_life_steps)


class CosineFrom(Cosine):
    """A cosine whose linear warm-up begins at the share `start` of the peak instead of at 0."""

    def __init__(
        self,
        total_steps: int,
        *,
        warmup_steps: Annotated[int, Ge(0)],
        start: Annotated[float, Ge(0), Le(1)],
        floor: Annotated[float, Ge(0), Le(1)],
    ) -> None:
        super().__init__(total_steps, warmup_steps=warmup_steps, floor=floor)
        self.start = start

    def __call__(self, step: int) -> float:
        value = super().__call__(step)
        return self.start + (1 - self.start) * value if step < self.warmup_steps else value


class Scaled(Schedule):
    """`peak` times another schedule: a learning rate, or the weight of a term."""

    def __init__(self, total_steps: int, *, peak: Annotated[float, Gt(0)], schedule: Part[Schedule]) -> None:
        self.peak, self.schedule = peak, schedule(total_steps)

    def __call__(self, step: int) -> float:
        return self.peak * self.schedule(step)


class Ramp(Schedule):
    """`before` until the share `start` of the run, linear to `after` at the share `stop`, then `after`.

    Shares, as the lengths of stages are, so that train.steps alone scales a run. `start` = `stop`
    is a jump: `after` holds from the first step at or behind it.
    """

    def __init__(
        self,
        total_steps: int,
        *,
        start: Annotated[float, Ge(0), Le(1)],
        stop: Annotated[float, Ge(0), Le(1)],
        before: float,
        after: float,
    ) -> None:
        if stop < start:
            raise UserError(f"start={start:g}, stop={stop:g}: a ramp cannot stop before it starts")
        self.first, self.last = start * total_steps, stop * total_steps
        self.before, self.after = before, after

    def __call__(self, step: int) -> float:
        if step >= self.last:
            return self.after
        done = max(step - self.first, 0) / (self.last - self.first) if self.last > self.first else 0.0
        return self.before + done * (self.after - self.before)
