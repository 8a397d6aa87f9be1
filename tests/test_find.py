"""Which run a word means."""

from __future__ import annotations

from pathlib import Path

import pytest

from vocl.errors import UserError
from vocl.rundir.results_root import ResultsRoot


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs; beside them, folders like those of exports, in the folder where the words are typed."""
    for name in ("results/runs/aaaa000001", "results/runs/bbbb000001", "aaaa000001", "bb", "mine"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return Path("results")


@pytest.mark.parametrize(
    ("word", "folder"),
    [
        ("aaaa000001", "results/runs/aaaa000001"),
        ("a", "results/runs/aaaa000001"),
        ("bb", "results/runs/bbbb000001"),
        ("./bb", "bb"),
        ("mine", "mine"),
    ],
)
def test_an_id_goes_before_a_folder_of_that_name(root: Path, word: str, folder: str) -> None:
    assert ResultsRoot(root).find(word).path == Path(folder)


@pytest.mark.parametrize("word", ["", "c", "nowhere", "results/runs"])
def test_no_run_is_one_line_that_names_those_there_are(root: Path, word: str) -> None:
    with pytest.raises(UserError, match="there are aaaa000001, bbbb000001") as caught:
        ResultsRoot(root).find(word)
    assert "\n" not in str(caught.value)
