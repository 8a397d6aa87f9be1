"""Making a whole folder appear at once, or not at all."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vocl.errors import UserError
from vocl.files import make_folder, permitted, set_mode


@contextmanager
def new_folder(path: Path, key: str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; it becomes `path` when the block ends without error.

    `key` is what the user calls it. Raises `UserError` when `path` holds something already or
    cannot be written, also when the disk fills up; then nothing is left behind.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{key}={path}: exists already and is not empty; choose another folder or remove it")
    temporary = None
    try:
        make_folder(path.parent)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        # from the start, so that what is made in it is shared with a group as well; setgid stays
        set_mode(temporary, stat.S_IMODE(temporary.stat().st_mode) & ~0o777 | permitted(path.parent))
        yield temporary
        temporary.rename(path)  # an empty folder is replaced, a filled one is an OSError
    except OSError as error:
        detail = f"{error.strerror or error}: {error.filename}" if error.filename else error.strerror or error
        raise UserError(f"{key}={path}: cannot write there: {detail}") from None
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)
