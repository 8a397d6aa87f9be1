"""What Optuna proposes to try next. The study is made of the records each time; Optuna stores nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from launch.search.declared import SAMPLERS, Axis, Search
from launch.search.standing import Standing, next_number
from vocl.errors import UserError, near

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

REDRAWS = 20  # where a draw has been tried before


def propose(search: Search, count: int, found: Sequence[Standing]) -> dict[str, Any]:
    """The parameters of the next trial, given how the others stand at their `count` rungs.

    The draws of trial n depend on the search's seed, on n and on what is known, not on the process.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = {key: _distribution(axis) for key, axis in search.space.items()}
    number = next_number(found)
    sampler = _sampler(search, (search.sampler_seed * 1_000_003 + number) % 2**32)
    study = optuna.create_study(direction=search.direction, sampler=sampler)
    study.add_trials([_trial(each, space, count) for each in found])
    tried = [each.trial.params for each in found]
    for _ in range(REDRAWS):
        drawn = study.ask(space).params
        params = {key: _readable(value, search.space[key]) for key, value in drawn.items()}
        if params not in tried:
            break
    return params


def require() -> None:
    """Raise `UserError` where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError(f"vocl search: needs Optuna ({error}): pip install 'vocl[search]'") from None


def check(search: Search) -> None:
    """Raise `UserError` where Optuna does not take the sampler or the space."""
    propose(search, 1, [])


def _readable(value: Any, axis: Axis) -> Any:
    """A number without steps to four digits: no more of them mean anything, and they are to be typed."""
    if not isinstance(value, float) or axis.step is not None:
        return value
    short = float(f"{value:.4g}")
    return short if axis.low <= short <= axis.high else value


def _sampler(search: Search, seed: int) -> Any:
    from optuna import samplers

    settings = dict(search.sampler)
    target = settings.pop("_target_")
    name = target.removeprefix(SAMPLERS)
    made: Any = getattr(samplers, name, None)
    if not (isinstance(made, type) and issubclass(made, samplers.BaseSampler)):
        raise UserError(f"{search.path}: sampler._target_={target}: no sampler{near(name, samplers.__all__)}")
    try:
        make: Any = made  # of which mypy knows the base alone, that takes nothing
        return make(seed=seed, **settings)
    except (TypeError, ValueError) as error:
        raise UserError(f"{search.path}: sampler: {' '.join(str(error).split())}") from None


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna import distributions

    if axis.choices is not None:
        return distributions.CategoricalDistribution(axis.choices)
    numbers = (axis.low, axis.high, *(() if axis.step is None else (axis.step,)))
    if all(isinstance(number, int) for number in numbers):
        return distributions.IntDistribution(int(axis.low), int(axis.high), axis.log, int(axis.step or 1))
    return distributions.FloatDistribution(axis.low, axis.high, axis.log, axis.step)


def _trial(each: Standing, space: dict[str, BaseDistribution], count: int) -> FrozenTrial:
    """A trial in Optuna's words: pruned where it waits at a rung, for it may never go on."""
    from optuna.trial import TrialState, create_trial

    done = each.values.get(count - 1)
    waits = TrialState.RUNNING if each.is_going else TrialState.PRUNED
    state = TrialState.FAIL if each.failure else waits if done is None else TrialState.COMPLETE
    return create_trial(
        state=state,
        value=done if state is TrialState.COMPLETE else None,
        params=each.trial.params,
        distributions=space,
        intermediate_values=each.values,
    )
