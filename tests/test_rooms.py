"""The tree stays one that a stranger finds his way in: small folders, all of them on the README's map."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted({path.parent for top in ("vocl", "launch") for path in (ROOT / top).rglob("*.py")})
MOST_AT_THE_TOP, MOST = 16, 20


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_folder_is_crowded(folder: Path) -> None:
    most = MOST_AT_THE_TOP if folder.parent == ROOT else MOST
    assert len(list(folder.glob("*.py"))) <= most


def test_the_map_names_every_package() -> None:
    readme = (ROOT / "README.md").read_text()
    drawn = readme.partition("## Map")[2].partition("\n## ")[0]
    packages = [folder.name for folder in FOLDERS if folder.parent.parent == ROOT]
    assert packages and [name for name in packages if f" {name}/ " not in drawn] == []


OWN = ("config.yaml", "result.json", "heartbeat.json", "metrics.jsonl", "log.txt", "runs", "by-name")


def test_one_owner_spells_the_files_of_a_results_folder() -> None:
    """`RunDir` and `ResultsRoot`: whoever else writes a name down decides it a second time."""
    spelt = []
    for path in (p for top in ("vocl", "launch", "hydra_plugins") for p in (ROOT / top).rglob("*.py")):
        if path.parent != ROOT / "vocl" / "rundir":
            tree = ast.parse(path.read_text())
            texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
            lines = path.read_text().splitlines()
            spelt += [
                f"{path}:{node.lineno}: {lines[node.lineno - 1]}" for node in texts if node.value in OWN
            ]
    assert spelt == []
