"""What trackers are shown of a table."""

from __future__ import annotations

import json

import pytest
import wandb
import wandb_files
from PIL import Image
from trackers import of_trackio, patience, with_trackio  # noqa: F401 (patience is of every test)
from wandb_server import KEY, server

from launch.cli import main
from launch.commands.sharing import sync
from vocl.rundir.results_root import ResultsRoot
from vocl.tracking import media, table_process
from vocl.tracking.wandb_client import WandbClient


def a_table(root, name="demo/[a] scope"):
    """What `vocl table` leaves."""
    folder = root / "tables" / name
    folder.mkdir(parents=True)
    (folder / "table.csv").write_text("row,metric,mean\nno contrast,video_mbo,58.3\n")
    (folder / "table.md").write_text("**Scope**\n")
    for picture in ("no-contrast.png", "of-a-row-of-before.png"):
        Image.new("RGB", (8, 8)).save(folder / picture)
    media.write(folder, [media.Picture("picture/no-contrast", folder / "no-contrast.png", "no contrast")])
    (folder / "report.html").write_text("<!doctype html>\n<p>all about it</p>\n")
    (folder / "secret.md").symlink_to(root / "elsewhere")
    return name


@pytest.mark.slow
def test_a_table_is_a_run_with_the_files_as_an_artifact(tmp_path, monkeypatch, capsys):
    name = a_table(tmp_path)
    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        words = ["--table", name, f"runtime.root={tmp_path}", "runtime.wandb_project=paper"]
        assert sync.main(words) == 0
        assert capsys.readouterr().out == f"{name}: uploaded, in project paper\n"
        ((identity, told),) = runs.runs.items()
        assert identity.startswith("table-") and told["name"] == f"table {name}"
        assert told["history"][0]["table"]["nrows"] == 1 and "picture/no-contrast" in told["history"][1]
        assert told["states"][-1] == {"exitcode": 0}
        (kept,) = [one for one in runs.artifacts.values() if one["type"] == "table"]
        assert set(kept["files"]) == {"manifest", "table.csv", "table.md", "report.html", "no-contrast.png"}
        assert told["history"][1]["report"]["_type"] == "html-file"
        assert kept["committed"] and b"58.3" in kept["files"]["table.csv"]
        assert sync.main(words) == 0  # again: further steps of the same run
        assert len(runs.runs) == 1 and len(told["history"]) == 4
        monkeypatch.setenv("WANDB_API_KEY", "b" * 40)
        assert sync.main(words) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_table_is_one_report_in_the_files_of_the_client(tmp_path):
    """Offline, by the real client: what a server would get."""
    name = a_table(tmp_path)
    client = WandbClient(tmp_path, "offline", "paper", None, 10.0)
    table_process.show(ResultsRoot(tmp_path), name, client)
    wandb.teardown()  # it writes on when the run is finished
    (file,) = wandb_files.folders(tmp_path)
    assert wandb_files.opened(file).job_type == "table"
    assert [row["report._type"] for row in wandb_files.rows(file)[1:]] == ["html-file"]
    page = file.parent / "files" / wandb_files.rows(file)[1]["report.path"]
    assert page.read_text() == (tmp_path / "tables" / name / "report.html").read_text()


@with_trackio
@pytest.mark.slow
def test_a_table_in_trackio(tmp_path):
    """To the project where its runs are."""
    name = a_table(tmp_path)
    row = {"row": "no contrast", "column": "all", "seed": 0, "id": "0" * 10, "after": None}
    for path, content in (
        (tmp_path / "by-name" / name / "selection.json", {"arguments": [], "runs": [row]}),
        (
            tmp_path / "runs" / row["id"] / "config.yaml",
            {"runtime": {"tracking": "trackio", "wandb_project": "paper"}},
        ),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    assert sync.main(["--table", name, f"runtime.root={tmp_path}"]) == 0
    ((told, rows),) = of_trackio(tmp_path / "trackio", "paper").items()
    assert told.startswith(f"table {name} table-") and {"picture/no-contrast", "report"} <= set(rows[1])
    assert rows[0]["table"]["_value"] == [{"row": "no contrast", "metric": "video_mbo", "mean": "58.3"}]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--table", "absent"], "to write it: vocl table absent"),
        (["--table", "../runs"], "no table in"),
        (["--table", "demo", "--all"], "choose"),
        (["--table", "demo", "runtime.wandb_entity=a/b"], "runtime.wandb_entity=a/b: "),
    ],
)
def test_mistakes_with_tables(tmp_path, capsys, words, said):
    assert main(["sync", *words, f"runtime.root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
