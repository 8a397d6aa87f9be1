"""Compiles tables as papers do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ENGINES = ("pdflatex", "lualatex")
DOCUMENT = r"""\documentclass{article}
\usepackage{booktabs,graphicx}
%s
\begin{document}
Before. \input{table.tex} After.
\end{document}
"""


def compile_table(engine: str, table: str, folder: Path, preamble: str = "") -> Path:
    """The PDF of a document that has `table`; fails where it does not compile or lacks signs."""
    if shutil.which(engine) is None:
        pytest.skip(f"needs {engine}")
    (folder / "table.tex").write_text(table)
    (folder / "document.tex").write_text(DOCUMENT % preamble)
    command = [engine, "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=240)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (folder / "document.log").read_text(errors="replace")
    return folder / "document.pdf"
