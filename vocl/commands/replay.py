"""`vocl replay`: runs steps A to B - 1 of a run again, from its nearest checkpoint at or before A and on its
own config, and prints what each says. Where a step is not finite, it names the first module whose
output is not. Writes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vocl.config.check import check
from vocl.config.compose import compose
from vocl.config.run_config import values
from vocl.errors import NonFinite, UserError, printable
from vocl.interface import Clip
from vocl.loading import saved_config
from vocl.run import make_trainer, prepare, restore
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.results_root import ResultsRoot
from vocl.stop import StopFlag
from vocl.trainer import Taken, Trainer


def replay(run: str, arguments: Sequence[str]) -> None:
    """Print steps of the run `run` (an id or a folder); stops after one that is not finite."""
    given = [a for a in arguments if a.startswith("steps=")]
    runtime = [a for a in arguments if a not in given]
    if len(given) != 1 or not all(a.startswith("runtime.") for a in runtime):
        raise UserError(
            f"{' '.join(arguments)}: expected steps=A:B, and at most runtime.<key>=value beside it"
        )
    changed = compose(runtime)["runtime"]
    place = ResultsRoot.of(changed["root"]).find_trusted(run)
    config = saved_config(place, changed["root"])
    asked = {key: changed.get(key) for key in (a.partition("=")[0].removeprefix("runtime.") for a in runtime)}
    asked["late_checks"] = False  # the step that fails is to be repeated from the weights it met
    config = check(config.content | {"runtime": values(config.runtime) | asked})
    first, last = _range(given[0], config.train.steps)
    found = Checkpoints(place.checkpoints).newest(before=first)
    device = prepare(config, place)
    trainer = make_trainer(config, place, device, StopFlag(), found is None, silent=True)
    start = restore(trainer, found, place)
    print(f"{place}: from step {start}{'' if found else ' (no checkpoint is that early)'}")
    with closing(trainer.batches(range(start, last))) as batches:
        for step, clip in batches:
            try:
                taken = trainer.step(step, clip)
            except NonFinite as error:
                _explain(trainer, clip, error)
                return
            if step >= first:
                print(_line(step, clip, taken))


def _range(text: str, steps: int) -> tuple[int, int]:
    match = re.fullmatch(r"steps=(\d+):(\d+)", text)
    first, last = (int(g) for g in match.groups()) if match else (0, 0)
    if not first < last <= steps:
        raise UserError(f"{text}: expected steps=A:B with 0 <= A < B <= {steps}")
    return first, last


def _line(step: int, clip: Clip, taken: Taken) -> str:
    terms = "  ".join(f"{name} {value:.6g}" for name, value in taken.terms.items())
    return f"step {step}: loss {taken.loss:.6g}  {terms}  grad norm {taken.norm:.6g}"


def _explain(trainer: Trainer, clip: Clip, error: NonFinite) -> None:
    """What is not finite in the step that failed; nothing of it was applied, so it can be repeated."""
    record = error.record
    terms = "  ".join(f"{name} {value:.6g}" for name, value in record["terms"].items())
    print(f"step {error.step}: NOT FINITE: loss {record['loss']:.6g}  {terms}")
    print(printable(f"  clips: {', '.join(record['names'])}"))
    weights = [*trainer.model.named_parameters(), *trainer.objective.named_parameters()]
    spoilt = [name for name, p in weights if not torch.isfinite(p).all()]
    if spoilt:
        print(f"  weights that are not finite before it: {_some(spoilt)}")
    with _watched(trainer) as seen:
        trainer.forward(error.step, clip)
    if seen:
        print(f"  first module whose output is not finite: {seen[0]}")
        return
    gradients = [n for n, norm in record["gradient_norms"].items() if not abs(norm) < float("inf")]
    print(f"  every module's output is finite; gradients that are not: {_some(gradients)}")


@contextmanager
def _watched(trainer: Trainer) -> Iterator[list[str]]:
    """Collects the modules of model and objective whose output is not finite, in order of execution."""
    seen: list[str] = []

    def hook(name: str) -> Any:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            if any(t.is_floating_point() and not torch.isfinite(t).all() for t in _tensors(output)):
                seen.append(f"{name} ({type(module).__name__})")

        return look

    parts = {"model": trainer.model, "objective": trainer.objective}
    named = [(f"{top}.{n}".rstrip("."), m) for top, part in parts.items() for n, m in part.named_modules()]
    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from (t for item in value.values() for t in _tensors(item))
    elif isinstance(value, list | tuple):
        yield from (t for item in value for t in _tensors(item))
    elif hasattr(value, "__dict__"):
        yield from _tensors(vars(value))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
