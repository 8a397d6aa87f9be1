"""The pages of a table open from disk in a browser: they sort, show pictures, and ask for nothing else."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import run_records
from PIL import Image

from launch.cli import main
from launch.selection.plan import select
from launch.tables import pictures

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="pages are opened with playwright (pip install -e .[dev])"
)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium")

SCORES = {"none": 0.3, "video": 0.9, "batch": 0.6}
DRAW = """
import json, pathlib, shutil, sys
out = next(w[4:] for w in sys.argv if w.startswith("out="))
place = pathlib.Path(out)
slots = {"num_slots": 4, "used": 3, "used_per_frame": [2, 3], "frames": [0, 1]}
slots |= {"between_frames": [[1, 0.5], [0.5, 1]], "next_frame": [[1, 0], [0, 1]]}
if out.endswith("/"):
    place.mkdir()
    shutil.copy(PICTURE, place / "000.png")
    found = {"video": "v/0", "picture": "000.png", "score": 0.5, "facts": {sys.argv[1]: slots}}
    (place / "videos.json").write_text(json.dumps([found]))
else:
    shutil.copy(PICTURE, place)
"""


@pytest.fixture
def pages(declare, finish, tmp_path: Path, monkeypatch) -> Path:
    """The folder of a table's pages: three rows of made-up runs, with made-up pictures."""
    picture = tmp_path / "picture.png"
    Image.fromarray(np.full((60, 800, 3), 128, np.uint8)).save(picture)
    monkeypatch.setattr(pictures, "SHOW", (sys.executable, "-c", f"PICTURE = {str(picture)!r}\n{DRAW}"))
    root = tmp_path / "results"
    arguments = ["trio", declare(), f"runtime.root={root}"]
    for spec in select(arguments).specs:
        folder = root / "runs" / spec.id
        run_records.reports(folder, [3.0, 2.0, 1.0], slots_used=2.0)
        score = SCORES[spec.row]
        finish(spec, root, video_fg_ari=score, video_mbo=score / 2)
        rows = [{"video": f"v/{i}", "video_fg_ari": score * i / 5} for i in range(6)]
        (folder / "eval" / ("0" * 10)).mkdir(parents=True)
        (folder / "eval" / ("0" * 10) / "rows.json").write_text(json.dumps(rows))
    assert main(["table", *arguments, "--pictures"]) == 0
    assert main(["report", *arguments]) == 0
    return root / "tables" / "trio"


@pytest.fixture
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def test_pages_sort_and_show_pictures_without_errors_and_network(pages: Path, browser: Any) -> None:
    for name in ("table.html", "report.html"):
        page, said, asked = browser.new_page(), [], []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.on("pageerror", lambda error, said=said: said.append(str(error)))
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        page.goto((pages / name).as_uri())
        _sorts(page)
        _shows_pictures(page)
        assert said == []
        assert [url for url in asked if not url.startswith("data:")] == [(pages / name).as_uri()]
        page.close()


def _sorts(page: Any) -> None:
    """A click on a header puts the best first, another one the worst."""
    header = page.locator("#scores thead button").nth(1)
    labels = page.locator("#scores tbody tr td:first-child")
    assert labels.all_inner_texts() == ["none", "video", "batch"]
    header.click()
    assert labels.all_inner_texts() == ["video", "batch", "none"]
    header.click()
    assert labels.all_inner_texts() == ["none", "batch", "video"]
    assert page.locator("#scores thead th").nth(1).get_attribute("aria-sort") == "ascending"


def _shows_pictures(page: Any) -> None:
    """Every picture is there; a click on a thumbnail opens the whole one, Escape closes it."""
    widths = page.eval_on_selector_all("figure img", "all => all.map(each => each.naturalWidth)")
    assert len(widths) >= 3 and all(widths)
    dialog = page.locator("dialog")
    assert not dialog.is_visible()
    page.locator("figure button").first.click()
    assert dialog.is_visible()
    dialog.locator("img").wait_for()
    page.wait_for_function("document.querySelector('dialog img').naturalWidth == 800")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
