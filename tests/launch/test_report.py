"""`vocl report`: one page on the runs of a table, whatever has become of them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import run_records
from PIL import Image

from launch.cli import main
from launch.selection.plan import select
from launch.tables import charts, pictures
from launch.tables.charts import Curve

ROWS = [{"video": f"v/{i}", "video_fg_ari": i / 10, "video_mbo": i / 20} for i in range(8)]
# what `vocl show` writes, without a model
SHOW = """
import json, pathlib, shutil, sys
out = pathlib.Path(next(w[4:] for w in sys.argv if w.startswith("out=")))
out.mkdir(parents=True)
slots = {"num_slots": 4, "used": 3, "used_per_frame": [2, 3], "frames": [0, 1]}
slots |= {"between_frames": [[1, 0.5], [0.5, 1]], "next_frame": None}
for name in ("000.png", "001.png"):
    shutil.copy(PICTURE, out / name)
videos = [{"video": v, "picture": p, "score": s, "facts": {sys.argv[1]: slots}}
          for v, p, s in (("v/7", "000.png", 0.7), ("v/0", "001.png", 0.0))]
(out / "videos.json").write_text(json.dumps(videos))
"""


@pytest.fixture
def half_done(declare, finish, tmp_path: Path, monkeypatch) -> list[str]:
    """Three rows: one whole, one of a failed run and an absent one, one without rows of videos; pictures are
    made up."""
    picture = tmp_path / "picture.png"
    Image.fromarray(np.zeros((30, 60, 3), np.uint8)).save(picture)
    script = f"PICTURE = {str(picture)!r}\n{SHOW}"
    monkeypatch.setattr(pictures, "SHOW", (sys.executable, "-c", script))
    root = tmp_path / "results"
    arguments = ["trio", declare(), f"runtime.root={root}"]
    for spec in select(arguments).specs:
        folder = root / "runs" / spec.id
        if spec.row != "video":
            run_records.reports(folder, [3.0, 2.0, 1.0 + spec.seed], slots_used=2.0)
            finish(spec, root, video_fg_ari=0.5, video_mbo=0.25)
        if spec.row == "none":
            place = folder / "eval" / ("0" * 10)
            place.mkdir(parents=True)
            (place / "rows.json").write_text(json.dumps(ROWS))
        if spec.row == "video" and spec.seed == 0:
            run_records.start(folder)
            run_records.end(folder, "failed", kind="ValueError", message="no <good>")
    return arguments


def page_of(arguments: list[str]) -> str:
    root = next(a.removeprefix("runtime.root=") for a in arguments if a.startswith("runtime.root="))
    return (Path(root) / "tables" / "trio" / "report.html").read_text()


def test_every_part_is_there_or_says_why_not(half_done: list[str], capsys) -> None:
    assert main(["report", *half_done, "--videos", "1"]) == 0
    assert capsys.readouterr().out.strip().endswith("tables/trio/report.html")
    page = unescape(page_of(half_done))
    assert "4 done, 1 failed, 1 absent" in page
    assert page.count("<polyline") == 8  # loss and slots used, of four runs
    assert page.count("nothing logged: video") == 2
    assert page.count('class="dots"') == 2 and page.count("no rows of videos are kept") == 4
    assert "best: video_fg_ari 70.0, v/7; 3 of 4 slots used, 2 to 3 in a frame" in page
    assert "worst: video_fg_ari 0.0, v/0" in page
    assert "no run of this row is done" in page
    assert "ValueError: no <good>" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|\.\./)""", page)


def test_probes_have_curves_of_the_metrics_of_the_table(half_done: list[str], tmp_path: Path) -> None:
    spec = next(spec for spec in select(half_done).specs if spec.row == "none")
    with (tmp_path / "results" / "runs" / spec.id / "metrics.jsonl").open("a") as log:
        for step in (1000, 2000):
            line = {"step": step, "probe/discovery/video_fg_ari": step / 5000, "probe_s": 1.0}
            log.write(json.dumps(line | {"probe/discovery/image_ari": 0.5}) + "\n")
    assert main(["report", *half_done, "--videos", "0"]) == 0
    page = page_of(half_done)
    assert page.count("<polyline") == 9 and "video_fg_ari of probes" in page
    assert "video_mbo of probes" not in page and "image_ari" not in page


def test_links_lead_to_run_folders_and_nothing_else_is_left(half_done: list[str], tmp_path: Path) -> None:
    assert main(["report", *half_done]) == 0
    place = tmp_path / "results" / "tables" / "trio"
    assert [path.name for path in place.iterdir()] == ["report.html"]
    links = re.findall(r'<a href="([^"]*)"', page_of(half_done))
    assert len(links) == 6 and sum((place / link).is_dir() for link in links) == 5  # one is absent


def test_without_pictures_none_are_drawn(half_done: list[str], monkeypatch) -> None:
    monkeypatch.setattr(pictures, "SHOW", ("/nowhere",))
    assert main(["report", *half_done, "--videos", "0"]) == 0
    assert "none were drawn" in page_of(half_done)


def test_videos_that_cannot_be_drawn_are_told(half_done: list[str], monkeypatch, capsys) -> None:
    monkeypatch.setattr(pictures, "SHOW", (sys.executable, "-c", "raise SystemExit('no GPU')"))
    assert main(["report", *half_done]) == 1
    assert "no videos of none, all: no GPU" in capsys.readouterr().err
    assert page_of(half_done).count("no GPU") == 2


def test_nothing_is_there_yet(declare: Callable[..., str], tmp_path: Path) -> None:
    arguments = ["trio", declare(), f"runtime.root={tmp_path / 'results'}"]
    assert main(["report", *arguments]) == 0
    page = page_of(arguments)
    assert "6 absent" in page and "no run has logged anything yet" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--by", "iou"], "--by iou: choose from video_fg_ari, video_mbo"), (["--videos", "-1"], "--videos")],
)
def test_mistakes(half_done: list[str], words: list[str], message: str, capsys) -> None:
    assert main(["report", *half_done, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_ticks_are_round_numbers_and_a_spike_does_not_flatten_the_rest() -> None:
    ticks = charts.scale([0.0, 0.93], 0, 100).ticks
    assert [text for _, text in ticks] == ["0", "0.2", "0.4", "0.6", "0.8"]
    assert len(charts.scale([2.0, 2.0], 0, 100).ticks) >= 3
    points = [(float(step), 1.0 + step / 1000) for step in range(1000)]
    chart = charts.curves("loss", [Curve("a", "", [(0.0, 1e6), *points])], {"a": "#000000"})
    assert chart["y"].high < 3
    assert len(chart["paths"][0]["points"].split()) <= charts.POINTS + 1
