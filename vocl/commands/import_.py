"""`vocl import METHOD FILE OUT [overrides]`: an official checkpoint becomes a run folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from vocl.config.compose import composed, project_of
from vocl.errors import UserError
from vocl.files import user_path
from vocl.reference.importer import find_method, import_checkpoint, methods

USAGE = "usage: vocl import METHOD FILE OUT [experiment=...] [overrides]"


def main(arguments: Sequence[str]) -> int:
    """Import as `arguments` say; returns the exit code (0, or 2 for a mistake, told in one line)."""
    try:
        out = _main(list(arguments))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{out}: imported; go on with  vocl eval {out}  or  vocl predict video=FILE checkpoint={out}")
    return 0


def _main(arguments: list[str]) -> Path:
    project = project_of(arguments)
    if len(arguments) < 3 or any("=" not in a for a in arguments[3:]):
        raise UserError(f"{USAGE}; METHOD is one of {', '.join(methods(project))}")
    name, source, out, *overrides = arguments
    method = find_method(name, project)
    return import_checkpoint(method, user_path(source), user_path(out), composed(overrides))
