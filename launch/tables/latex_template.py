"""A user's template of a LaTeX table. It is Jinja2 in LaTeX's own clothes, and runs in a sandbox: nothing in
it can reach Python, files or the network."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from launch.escape import one_line
from vocl.errors import UserError
from vocl.files import read_bytes, user_path

NAME = "<template>"  # Jinja2's file name of a template that was no file


def filled(path: str, parts: Mapping[str, Any]) -> str:
    """The template `path` with `parts`; `UserError` with its line."""
    from jinja2 import StrictUndefined, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    text = _read(path)
    environment = ImmutableSandboxedEnvironment(
        variable_start_string=r"\VAR{",
        variable_end_string="}",
        block_start_string=r"\BLOCK{",
        block_end_string="}",
        comment_start_string=r"\COMMENT{",
        comment_end_string="}",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,  # the parts are LaTeX
    )
    try:
        made: str = environment.from_string(text).render(parts)
        made.encode()  # a template can spell what no file can hold
        return made
    except TemplateSyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {one_line(str(error.message))}") from None
    except Exception as error:  # whatever an expression of the template makes of the parts
        line = _line(error.__traceback__)
        raise UserError(f"{path}:{line}: {one_line(str(error)) or type(error).__name__}") from None


def _read(path: str) -> str:
    try:
        return read_bytes(user_path(path)).decode()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or "not a text in UTF-8"
        raise UserError(f"table.template={path}: {said}; expected a LaTeX template") from None


def _line(traceback: TracebackType | None) -> int:
    """The line of the template in which an expression failed; 1 where that is not known."""
    line = 1
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == NAME:
            line = traceback.tb_lineno
        traceback = traceback.tb_next
    return line
