"""Notebooks show what library code computes: they run from top to bottom, and define nothing."""

import ast
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main

nbformat = pytest.importorskip("nbformat", reason="notebooks are read with nbformat (pip install -e .[dev])")
nbclient = pytest.importorskip("nbclient", reason="notebooks are run with nbclient (pip install -e .[dev])")

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TABLE = """
base: {experiment: slotcontrast/synthetic, debug: tiny, eval: [single_object]}
columns: {trained: {}, untrained: {train.steps: 0}}
rows: {SlotContrast: {}}
seeds: [0]
metrics: [single_object/single_best_slot_j]
"""


def cells(path: Path, kind: str = "code") -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_defines_nothing_and_keeps_no_output(path: Path) -> None:
    assert cells(path, "markdown")
    for cell in cells(path):
        assert not cell.outputs
        assert cell.execution_count is None
        defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, defined)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A project with a table, and the folder of its tiny runs."""
    folder = tmp_path_factory.mktemp("notebooks")
    project, root = folder / "project", folder / "results"
    (project / "conf" / "ablation").mkdir(parents=True)
    (project / "conf" / "ablation" / "tiny.yaml").write_text(TABLE)
    (project / "own").mkdir()
    (project / "own" / "__init__.py").touch()
    words = ["submit", "tiny", f"project={project}", "cluster=local", "cluster.slots=2"]
    assert main([*words, f"runtime.root={root}"]) == 0
    return project, root


def ran(name: str, **variables: str) -> list[Any]:
    """The outputs of a notebook that has been run from top to bottom."""
    path = next(p for p in NOTEBOOKS if p.stem == name)
    notebook = nbformat.read(path, as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        for key, value in variables.items():
            patch.setenv(f"VOCL_{key}", value)
        nbclient.NotebookClient(
            notebook, timeout=600, resources={"metadata": {"path": path.parent}}
        ).execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def pictures(outputs: list[Any]) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
def test_methods_davis_runs_from_top_to_bottom_on_tiny_runs(tiny: tuple[Path, Path]) -> None:
    project, root = tiny
    outputs = ran(
        "methods_davis",
        TABLES="tiny",
        OVERRIDES=f"project={project}",
        ROOT=str(root),
        VIDEO="validation/00001",
    )
    assert pictures(outputs) == 3  # seeds, videos, and the slots of the one row
    assert any("SlotContrast" in output.get("text", "") for output in outputs)


@pytest.mark.slow
def test_inspect_run_runs_from_top_to_bottom_on_a_tiny_run(tiny: tuple[Path, Path]) -> None:
    outputs = ran("inspect_run", ROOT=str(tiny[1]), METRIC="single_best_slot_j")
    assert pictures(outputs) >= 1 + 2 + 2 + 1  # curves, videos, what their slots do, trajectories


@pytest.mark.slow
def test_compare_runs_runs_from_top_to_bottom_on_tiny_runs(tiny: tuple[Path, Path]) -> None:
    project, root = tiny
    outputs = ran("compare_runs", TABLE="tiny", OVERRIDES=f"project={project}", ROOT=str(root))
    assert pictures(outputs) == 3  # curves, videos, overlays
    assert any("SlotContrast" in output.get("text", "") for output in outputs)
