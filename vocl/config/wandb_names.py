"""What W&B and trackio take as the name of a project, an entity, a run or an artifact."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from vocl.config.sections import Runtime
from vocl.errors import UserError

NAME_CHARACTERS = 128  # of a project or a run
REFUSED = "/\\#?%:"  # in the name of a project
OF_TRACKIO = re.compile(r"(?!registry-)[A-Za-z0-9_-]+")  # it drops other signs: two projects become one
# ends of names of files that trackio has beside those of a project
TAKEN_ENDS = (
    "_system",
    "_configs",
    "_traces",
    "_artifacts",
    "_artifact_versions",
    "_artifact_aliases",
    "_run_artifact_links",
)
ARTIFACT_SIGNS = re.compile(r"[^A-Za-z0-9._-]+")  # which neither W&B nor trackio takes in an artifact's name


def refuse_names(runtime: Runtime) -> None:
    """Raise `UserError` for names of `runtime` that the tracker would refuse hours later."""
    refuse_project(runtime.wandb_project)
    refuse_entity(runtime.wandb_entity)
    if runtime.tracking == "trackio":
        _refuse_project_of_trackio(runtime.wandb_project)


def refuse_project(project: Any) -> None:
    """Raise `UserError` for a `runtime.wandb_project` that W&B would refuse hours later."""
    signs = [sign for sign in REFUSED if sign in str(project)]
    if not isinstance(project, str) or not project or signs or len(project) > NAME_CHARACTERS:
        raise UserError(
            f"runtime.wandb_project={project}: W&B takes names of 1 to {NAME_CHARACTERS} characters "
            f"without any of {' '.join(REFUSED)}"
        )


def refuse_entity(entity: Any) -> None:
    """Raise `UserError` for a `runtime.wandb_entity` that is no part of an address."""
    signs = [sign for sign in REFUSED if sign in str(entity)]
    if entity is not None and (not str(entity).strip() or signs or len(str(entity)) > NAME_CHARACTERS):
        raise UserError(
            f"runtime.wandb_entity={entity}: a user or team of W&B, without any of {' '.join(REFUSED)}; "
            "null: the account's own"
        )


def _refuse_project_of_trackio(project: str) -> None:
    if OF_TRACKIO.fullmatch(project) is None or project.endswith(TAKEN_ENDS):
        raise UserError(
            f"runtime.wandb_project={project}: trackio takes letters, digits, _ and -, not registry- in "
            f"front, nor {', '.join(TAKEN_ENDS)} at the end"
        )


def fitting(name: str, characters: int = NAME_CHARACTERS) -> str:
    """`name` of a run in the length that a tracker takes; a digest stands for what is cut."""
    if len(name) <= characters:
        return name
    half = characters // 2 - 6
    return f"{name[:half]}...{name[-half:]} {_digest(name)}"


def artifact_name(name: str) -> str:
    """`name` as W&B and trackio take it for an artifact; a digest stands for what they do not."""
    plain = ARTIFACT_SIGNS.sub("-", name)
    if plain == name and len(name) <= NAME_CHARACTERS:
        return name
    return f"{plain[: NAME_CHARACTERS - 9]}-{_digest(name)}"


def _digest(name: str) -> str:
    return hashlib.blake2s(name.encode(errors="surrogatepass"), digest_size=4).hexdigest()
