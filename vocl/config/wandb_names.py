"""What W&B takes as the name of a project or a run."""

from __future__ import annotations

import hashlib
from typing import Any

from vocl.errors import UserError

NAME_CHARACTERS = 128  # of a project or a run
REFUSED = "/\\#?%:"  # in the name of a project


def refuse_project(project: Any) -> None:
    """Raise `UserError` for a `runtime.wandb_project` that W&B would refuse hours later."""
    signs = [sign for sign in REFUSED if sign in str(project)]
    if not isinstance(project, str) or not project or signs or len(project) > NAME_CHARACTERS:
        raise UserError(
            f"runtime.wandb_project={project}: W&B takes names of 1 to {NAME_CHARACTERS} characters "
            f"without any of {' '.join(REFUSED)}"
        )


def fitting(name: str) -> str:
    """`name` of a run in the length that W&B takes; a digest stands for what is cut."""
    if len(name) <= NAME_CHARACTERS:
        return name
    digest = hashlib.blake2s(name.encode(errors="surrogatepass"), digest_size=4).hexdigest()
    return f"{name[: NAME_CHARACTERS // 2 - 6]}...{name[-NAME_CHARACTERS // 2 + 6 :]} {digest}"
