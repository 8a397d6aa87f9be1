"""The objective: a weighted sum of loss terms, each of which reads `Output` and `Clip` alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vocl.build import Part
from vocl.interface import Clip, Loss, Output


@dataclass(frozen=True)
class Term:
    """One term: `weight` times `loss` read on the level `level` of the Output (None: the top)."""

    loss: Loss
    weight: float
    level: str | None


class Objective(nn.Module):
    """The terms of a run, by name. Parameters of a term train and are saved as loss.<term>.*."""

    def __init__(self, terms: Mapping[str, Mapping[str, Part | float | str | None]]) -> None:
        super().__init__()
        # Sorted, so that the order in which terms were chosen cannot change a sum's rounding.
        self.terms = {name: _term(terms[name]) for name in sorted(terms)}
        self.loss = nn.ModuleDict({n: t.loss for n, t in self.terms.items() if isinstance(t.loss, nn.Module)})

    def forward(self, output: Output, clip: Clip, names: str | list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum, and each raw term; `names`: the terms that count, or "all"."""
        raw = {
            name: term.loss(_level(output, term.level), clip)
            for name, term in self.terms.items()
            if names == "all" or name in names
        }
        total = sum(
            (self.terms[name].weight * value for name, value in raw.items()),
            torch.zeros((), device=clip.video.device),
        )
        return total, {name: value.detach() for name, value in raw.items()}


def _level(output: Output, level: str | None) -> Output:
    if level is None:
        return output
    return {"children": output.children, "teacher": output.teacher}[level]


def _term(node: Mapping[str, Part | float | str | None]) -> Term:
    return Term(node["loss"](), node["weight"], node["level"])
