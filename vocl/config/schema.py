"""The sections of a config: which there are, which make a run's identity, and what each takes."""

from __future__ import annotations

from typing import Annotated, Any

import annotated_types

from vocl.config.folders import packages
from vocl.config.proof import signature

Config = dict[str, Any]

HASHED = ("seed", "train", "model", "backbone", "loss", "curriculum", "dataset", "optim", "warm_start")
SECTIONS = {"train": "Train", "dataset": "Dataset", "runtime": "Runtime"}
PARTS = {  # the kind of each section that is one part, and of what stands by name in `loss` and `eval`
    "model": signature.part_of("vocl.interface.VideoModel"),
    "backbone": signature.part_of("vocl.interface.Backbone"),
    "curriculum": signature.part_of("vocl.curriculum.Curriculum"),
    "optim": signature.part_of("vocl.optim.Optimizer"),
}
LOSS = signature.part_of("vocl.interface.Loss")
EVALUATION = signature.part_of("vocl.interface.Evaluation")
ROOT = (*HASHED, "project", "eval", "runtime", "cluster")
SEED = Annotated[int, annotated_types.Ge(0), annotated_types.Lt(2**63)]
TERM = tuple(signature.read("vocl.config.sections.TermSettings", packages(None)).parameters)
EVALUATION_SETTINGS = tuple(
    signature.read("vocl.config.sections.EvaluationSettings", packages(None)).parameters
)


def section_types(name: str) -> dict[str, Any]:
    """What the keys of a section of plain values take: a class of `vocl.config.sections`."""
    return signature.read(f"vocl.config.sections.{name}", packages(None)).parameters
