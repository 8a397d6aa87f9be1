"""`python -m vocl.train -m hydra/sweeper=NAME ...`: a Hydra sweeper steers, our launcher submits."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from vocl.compose import project_of
from vocl.config import CONF
from vocl.errors import UserError
from vocl.files import user_path
from vocl.grammar import literal


def main(overrides: Sequence[str]) -> int:
    """Run Hydra's multirun over `overrides`; returns 0, or 1 when it or the sweeper failed."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    def never(config: Any) -> None:
        raise AssertionError("the launcher submits; nothing trains in this process")

    project = project_of(overrides)
    place = literal(f"file://{user_path(project).resolve() / 'conf'}") if project else ""
    search = [f"hydra.searchpath=[{place}]"] if project else []
    with tempfile.TemporaryDirectory() as folder:  # what Hydra writes of its own
        own = ["hydra/launcher=vocl", f"hydra.sweep.dir={folder}", "hydra/job_logging=none", *search]
        before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
        sys.argv = ["vocl.train", "--multirun", *overrides, *own]
        os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us as they are, not as printed traces
        try:
            hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")(never)()
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"-m: {' '.join(str(error).split())}") from None
        except SystemExit as ended:
            return int(bool(ended.code))
        finally:
            sys.argv = before
            os.environ.pop("HYDRA_FULL_ERROR")
            os.environ |= {"HYDRA_FULL_ERROR": full} if full else {}
    return 0
