"""Evaluations over several processes: every video once, and the same report everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from made_up import MadeUp, Videos, squares, subject_of
from running import on_ranks
from test_label_propagation import Shows, evaluation
from test_unsupervised_objects import Drawn, scored

from vocl import dist
from vocl.data.truth import Truth


def reports(advance=lambda: None) -> list[dict[str, object]]:
    """Of three videos, so that two ranks hold different shares; one is scored imperfectly."""
    places = [(4, 4), (4, 8), (8, 8), (8, 12)]
    videos = [MadeUp(name, squares(places, size=(24, 24 + 8 * i))) for i, name in enumerate("cab")]
    truths = {video.name: Truth.from_labels(video.labels) for video in videos}
    truths["a"] = Truth.from_labels(squares(places, side=10, size=(24, 32)))
    source = Videos(videos, truths)
    both = [
        evaluation().run(subject_of(Shows(), source)),
        scored(Drawn(slots=2), source, advance=advance),
    ]
    return [{"rows": report.rows, "metrics": report.metrics} for report in both]


def test_two_ranks_say_what_one_says(tmp_path):
    def on_rank(rank: int) -> int:
        torch.set_num_threads(1)
        dist.start(torch.device("cpu"))
        calls = []
        found = reports(lambda: calls.append(1))
        Path(tmp_path, f"{rank}.json").write_text(json.dumps({"reports": found, "calls": len(calls)}))
        dist.stop()
        return 0

    log = tmp_path / "log"
    assert on_ranks(2, on_rank, log) == [0, 0], log.read_text()
    expected = reports()
    for rank in range(2):
        said = json.loads((tmp_path / f"{rank}.json").read_text())
        assert said["reports"] == json.loads(json.dumps(expected))
        assert said["calls"] == 2
    assert [row["video"] for row in expected[0]["rows"]] == ["a", "b", "c"]
    assert 0.2 < expected[1]["metrics"]["davis_official_jf"] < 1


@pytest.mark.parametrize("world", [3, 5])
def test_every_video_is_scored_once_by_any_number_of_ranks(tmp_path, world):
    """Also where shares are uneven, and where there are more ranks than videos."""

    def scores(record) -> dict[str, object]:
        videos = [MadeUp(name, squares([(4, 4), (4, 8)], size=(24, 32))) for name in "dbca"]
        plain = {video.name: Truth.from_labels(video.labels) for video in videos}
        report = scored(Drawn(slots=2), Recorded(videos, plain, record))
        return {"rows": report.rows, "metrics": report.metrics}

    def on_rank(rank: int) -> int:
        torch.set_num_threads(1)
        dist.start(torch.device("cpu"))
        seen: set[str] = set()
        found = scores(seen.add)
        Path(tmp_path, f"{rank}.json").write_text(json.dumps({"report": found, "seen": sorted(seen)}))
        dist.stop()
        return 0

    log = tmp_path / "log"
    assert on_ranks(world, on_rank, log) == [0] * world, log.read_text()
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world)]
    assert sorted(name for rank in said for name in rank["seen"]) == ["a", "b", "c", "d"]
    expected = json.loads(json.dumps(scores(lambda name: None)))
    assert all(rank["report"] == expected for rank in said)
    assert [row["video"] for row in expected["rows"]] == ["a", "b", "c", "d"]


class Recorded(Videos):
    """Says which videos' truth was asked for."""

    def __init__(self, videos, truths, record) -> None:
        super().__init__(videos, truths)
        self.record = record

    def truth(self, name):
        self.record(name)
        return super().truth(name)
