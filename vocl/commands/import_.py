"""`vocl import`: an official checkpoint becomes a run folder."""

from __future__ import annotations

from collections.abc import Sequence

from vocl.config.compose import composed, project_of
from vocl.files import user_path
from vocl.reference.importer import find_method, import_checkpoint


def import_(name: str, source: str, out: str, overrides: Sequence[str]) -> None:
    """Make the run folder `out` of the checkpoint file `source`, by the names of method `name`."""
    method = find_method(name, project_of(overrides))
    folder = import_checkpoint(method, user_path(source), user_path(out), composed(overrides))
    print(
        f"{folder}: imported; go on with  vocl eval {folder}  or  vocl predict video=FILE checkpoint={folder}"
    )
