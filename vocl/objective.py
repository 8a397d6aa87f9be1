"""The objective: a weighted sum of loss terms, each of which reads `Output` and `Clip` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vocl.errors import UserError
from vocl.interface import Clip, Loss, Output, Schedule


@dataclass(frozen=True)
class Term:
    """One term: `weight` times `loss` read on the level `level` of the Output (None: the top)."""

    loss: Loss
    weight: float | Schedule
    level: str | None

    def weight_at(self, step: int) -> float:
        """The weight in force at `step` of the run."""
        return self.weight(step) if callable(self.weight) else self.weight


class Objective(nn.Module):
    """The terms of a run, by name. Parameters of a term train and are saved as loss.<term>.*.

    A term of weight 0 is computed all the same, so that its curve is logged; a stage's `terms` leave
    out what is not to be computed.
    """

    def __init__(self, terms: Mapping[str, Term]) -> None:
        super().__init__()
        # Sorted, so that the order in which terms were chosen cannot change a sum's rounding.
        self.terms = {name: terms[name] for name in sorted(terms)}
        self.loss = nn.ModuleDict({n: t.loss for n, t in self.terms.items() if isinstance(t.loss, nn.Module)})

    def forward(
        self, output: Output, clip: Clip, names: str | list[str], step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum with the weights of `step`, and each raw term; `names`: the terms that count, or "all"."""
        raw = {
            name: term.loss(_level(output, term.level, name), clip)
            for name, term in self.terms.items()
            if names == "all" or name in names
        }
        total = sum(
            (self.terms[name].weight_at(step) * value for name, value in raw.items()),
            torch.zeros((), device=clip.key.device),
        )
        return total, {name: value.detach() for name, value in raw.items()}


def _level(output: Output, level: str | None, name: str) -> Output:
    if level is None:
        return output
    found = {"children": output.children, "teacher": output.teacher}[level]
    if found is None:
        raise UserError(
            f"loss.{name}.level={level}: the model computes none in this stage; name the terms that count "
            "in curriculum.stages.<name>.terms"
        )
    return found
