"""`python -m vocl.train -m hydra/sweeper=NAME ...`: a Hydra sweeper steers, our launcher submits.

What the sweeper itself writes, such as the best trial, lands in `hydra.sweep.dir`, which is
<runtime.root>/multirun/<date>/<time> unless it is set; runs have folders of their own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vocl.config.compose import project_of
from vocl.config.folders import CONF
from vocl.config.grammar import key_of, literal
from vocl.config.hydra_settings import EVERYWHERE, OF_A_SWEEP, refuse_without_effect
from vocl.errors import UserError
from vocl.files import user_path


def main(overrides: Sequence[str]) -> int:
    """Run Hydra's multirun over `overrides`; returns 0, or 1 when it or the sweeper failed."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    def never(config: Any) -> None:
        raise AssertionError("the launcher submits; nothing trains in this process")

    refuse_without_effect(overrides, (*EVERYWHERE, *OF_A_SWEEP))
    made: set[Path] = set()
    try:
        with _command_line("--multirun", *overrides, *_own(overrides, made)):
            hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(never)()
    except SystemExit as ended:
        return int(bool(ended.code))
    except (HydraException, OmegaConfBaseException, UserError) as error:
        _remove_bare(made)
        text = " ".join(str(error).split())
        raise UserError(text if isinstance(error, UserError) else f"-m: {text}") from None
    return 0


def _own(overrides: Sequence[str], made: set[Path]) -> Iterator[str]:
    """Our choices, where `overrides` leave them open; the sweep's folder is added to `made` once known."""
    from omegaconf import OmegaConf

    stamp = time.strftime("%Y-%m-%d/%H-%M-%S")

    def folder(root: str) -> str:
        made.add(user_path(root) / "multirun" / stamp)
        return str(user_path(root) / "multirun" / stamp)

    OmegaConf.register_new_resolver("sweep_folder", folder, replace=True)
    given = [key_of(override) for override in overrides]
    if "hydra/launcher" not in given:
        yield "hydra/launcher=vocl"
    if "hydra.sweep.dir" not in given:
        yield "hydra.sweep.dir='${sweep_folder:${runtime.root}}'"
    yield "hydra/job_logging=none"
    if (project := project_of(overrides)) is not None:
        place = literal(f"file://{user_path(project).resolve() / 'conf'}")
        yield f"hydra.searchpath=[{place}]"


@contextmanager
def _command_line(*arguments: str) -> Iterator[None]:
    """`arguments` are what Hydra finds; errors come to us as they are, not as printed traces."""
    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = ["vocl.train", *arguments]
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        sys.argv = before
        os.environ.pop("HYDRA_FULL_ERROR")
        os.environ |= {"HYDRA_FULL_ERROR": full} if full else {}


def _remove_bare(folders: Iterable[Path]) -> None:
    """Remove folders of sweeps that ended at a mistake and hold no more than what Hydra itself writes."""
    for folder in folders:
        with suppress(OSError):
            if [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
                (folder / "multirun.yaml").unlink()
            for each in (folder, *folder.parents[:3]):  # up to runtime.root, as far as they are empty
                each.rmdir()
