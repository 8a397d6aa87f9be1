"""Notebooks show what library code computes: they run from top to bottom, and define nothing."""

import ast
from pathlib import Path

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


@pytest.mark.slow
def test_methods_davis_runs_from_top_to_bottom_on_tiny_runs(tmp_path: Path, monkeypatch, capfd) -> None:
    project, root = tmp_path / "project", tmp_path / "results"
    (project / "conf" / "ablation").mkdir(parents=True)
    (project / "conf" / "ablation" / "tiny.yaml").write_text(TABLE)
    (project / "own").mkdir()
    (project / "own" / "__init__.py").touch()
    words = [
        "submit",
        "tiny",
        f"project={project}",
        "cluster=local",
        "cluster.slots=2",
        f"runtime.root={root}",
    ]
    assert main(words) == 0, capfd.readouterr().err
    for name, value in {
        "VOCL_TABLES": "tiny",
        "VOCL_OVERRIDES": f"project={project}",
        "VOCL_ROOT": str(root),
        "VOCL_VIDEO": "validation/00001",
    }.items():
        monkeypatch.setenv(name, value)
    path = next(p for p in NOTEBOOKS if p.stem == "methods_davis")
    notebook = nbformat.read(path, as_version=4)
    ran = nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": path.parent}})
    ran.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3  # seeds, videos, and the slots of the one row
    assert any("SlotContrast" in output.get("text", "") for output in outputs)
