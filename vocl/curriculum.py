"""A run as a sequence of stages: what trains, on what, from which step. Most runs have one."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le
from torch import nn

from vocl.config.build import Part
from vocl.data.sampling import Sampling
from vocl.errors import UserError
from vocl.interface import Event, Schedule


@dataclass(frozen=True, kw_only=True)
class FeedSpec:
    """What a stage feeds instead of the run's clips; None keeps the run's value."""

    clip_frames: Annotated[int, Ge(1)] | None
    batch: Annotated[int, Ge(1)] | None
    sampling: Part[Sampling] | None


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage. `length` is its share of train.steps, so that train.steps alone scales a run.

    `train`: globs of the parameters that train ("all": every one that is not frozen by its module);
    `terms`: names of the loss terms that count; `active_slots`: slots in training; `lr`: factors
    on the run's rate by glob, constant or a schedule of the step since the start of the stage, the
    first match wins; `weight_decay`: values by glob; `enter`: events applied once on entry; `rate`:
    a schedule of its own, whose values are learning rates and whose steps count from the start of
    the stage (peak and warm-up: `vocl.schedule.Scaled`), None: the run's rate.
    """

    length: Annotated[float, Gt(0), Le(1)]
    train: Literal["all"] | list[str]
    terms: Literal["all"] | list[str]
    active_slots: Annotated[int, Ge(1)] | None
    rate: Part[Schedule] | None
    lr: dict[str, float | Part[Schedule]]
    weight_decay: dict[str, float]
    feed: Part[FeedSpec] | None
    enter: list[Part[Event]]


class Curriculum:
    """The stages in order, laid out on `total_steps` steps.

    `lr` of a stage multiplies the run-wide schedule, which does not restart: a curriculum that adds
    slots keeps one learning-rate curve. Schedules that a stage names count from its start.
    `seed` is the run's, for events that draw.
    """

    def __init__(self, total_steps: int, seed: int = 0, *, stages: dict[str, Part[Stage]]) -> None:
        self.total_steps = total_steps
        self.names = list(stages)
        self.stages = [part() for part in stages.values()]
        shares, self.starts = 0.0, []
        for stage in self.stages:
            self.starts.append(round(shares * total_steps))
            shares += stage.length
        self.events = [[event() for event in stage.enter] for stage in self.stages]
        lengths = [
            end - start for start, end in zip(self.starts, [*self.starts[1:], total_steps], strict=True)
        ]
        staged = list(zip(self.stages, lengths, strict=True))
        self.rates = [stage.rate(length) if stage.rate else None for stage, length in staged]
        self.schedules = [_schedules(stage, length) for stage, length in staged]

    def index(self, step: int) -> int:
        """Index of the stage that `step` belongs to."""
        return max(i for i, start in enumerate(self.starts) if start <= step)

    def stage(self, step: int) -> Stage:
        """The stage that `step` belongs to."""
        return self.stages[self.index(step)]

    def entering(self, step: int) -> list[Event]:
        """Events to apply before `step`: those of the stages that start at it."""
        return [event for i, start in enumerate(self.starts) if start == step for event in self.events[i]]

    def upcoming(self, step: int) -> list[Event]:
        """Events that have not been applied at `step` yet: they may observe."""
        return [event for i, start in enumerate(self.starts) if start > step for event in self.events[i]]

    def rate(self, step: int) -> float | None:
        """The learning rate at `step` where its stage has one of its own."""
        i = self.index(step)
        rate = self.rates[i]
        return None if rate is None else rate(self._since(i, step))

    def factor(self, name: str, step: int) -> float:
        """Factor on the learning rate for parameter `name` at `step`."""
        i = self.index(step)
        glob = _first_match(name, self.schedules[i])
        value = 1.0 if glob is None else self.schedules[i][glob]
        return value(self._since(i, step)) if callable(value) else value

    def weight_decay(self, name: str, step: int, default: float) -> float:
        """Weight decay for parameter `name` at `step`."""
        found = self.stage(step).weight_decay
        glob = _first_match(name, found)
        return default if glob is None else found[glob]

    def treatment(self, name: str) -> tuple[Any, ...]:
        """What decides rate and weight decay of parameter `name`, over all stages."""
        return tuple(
            _first_match(name, globs) for stage in self.stages for globs in (stage.lr, stage.weight_decay)
        )

    def trains(self, name: str, step: int) -> bool:
        """Whether parameter `name` trains at `step`."""
        globs = self.stage(step).train
        return globs == "all" or any(fnmatch.fnmatchcase(name, glob) for glob in globs)

    def check(self, parameters: dict[str, nn.Parameter]) -> None:
        """Refuse a glob that matches no parameter: it would silently do nothing."""
        for name, stage in zip(self.names, self.stages, strict=True):
            trained = [] if stage.train == "all" else stage.train
            for key, globs in (("train", trained), ("lr", stage.lr), ("weight_decay", stage.weight_decay)):
                for glob in globs:
                    if not any(fnmatch.fnmatchcase(p, glob) for p in parameters):
                        heads = ", ".join(sorted({p.split(".")[0] for p in parameters}))
                        where = f"curriculum.stages.{name}.{key}"
                        raise UserError(f"{where}: {glob!r} matches no parameter; they begin with {heads}")

    def state_dict(self) -> dict[str, Any]:
        """State of all events, for the checkpoint."""
        return {f"{i}.{j}": event.state_dict() for i, j, event in self._events()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore `state_dict`."""
        for i, j, event in self._events():
            event.load_state_dict(state[f"{i}.{j}"])

    def _events(self) -> Iterator[tuple[int, int, Event]]:
        return ((i, j, event) for i, events in enumerate(self.events) for j, event in enumerate(events))

    def _since(self, i: int, step: int) -> int:
        """Steps since the start of stage i (0 where a curriculum enters it before its share begins)."""
        return max(step - self.starts[i], 0)


def _schedules(stage: Stage, length: int) -> dict[str, Any]:
    return {glob: value(length) if callable(value) else value for glob, value in stage.lr.items()}


def _first_match(name: str, globs: Iterable[str]) -> str | None:
    return next((glob for glob in globs if fnmatch.fnmatchcase(name, glob)), None)
