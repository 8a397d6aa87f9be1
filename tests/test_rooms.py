"""The tree stays one that a stranger finds his way in: small folders, all of them on the README's map."""

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
