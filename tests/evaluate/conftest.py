from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from walks import project

TROUBLE = '''"""Evaluations that go wrong in ways that are set, or change when a file does."""

import os
from pathlib import Path
from typing import Any, ClassVar

import torch

from vocl.errors import UserError
from vocl.interface import Evaluation, Measure, Report, Subject

SCORE = 0.25


class Trouble(Evaluation):
    """Fails in the way that the file `signs`/trouble says; scores 0.25 without one."""

    needs: ClassVar[frozenset[str]] = frozenset({"masks"})
    scores: ClassVar[frozenset[str]] = frozenset({"score"})

    def __init__(self, *, split: str, signs: str) -> None:
        self.split, self.signs = split, Path(signs)

    def run(self, subject: Subject) -> Any:
        sign = self.signs / "trouble"
        way = sign.read_text() if sign.is_file() else ""
        subject.advance()
        if way == "one rank" and os.environ.get("RANK") == "1":
            raise ArithmeticError("of this rank alone")
        subject.advance()
        if way == "mistake":
            raise UserError("the annotation of video 3 is empty")
        if way == "exit":
            raise SystemExit("no such option")
        if way == "crash":
            return {}["absent"]
        if way == "dict":
            return {"score": 1.0}
        if way == "train":
            sum(p.sum() for p in subject.model.parameters()).backward()
        found = {"undefined": torch.tensor([float("nan")]), "diverged": 1e300, "word": "a word"}
        found |= {"several": torch.ones(3), "huge": 10**400}
        score = found.get(way, torch.tensor([SCORE]))
        measures = {"sore": Measure()} if way == "misspelt" else {"score": True} if way == "measure" else {}
        rows = {"v": 1} if way == "rows" else [{"video": "v", "seen": subject.model.training}]
        protocol = None if way == "nameless" else "none"
        return Report(protocol, rows, {"other" if way == "other" else "score": score}, measures)


class Dense(Evaluation):
    """The size of the features of one frame."""

    needs: ClassVar[frozenset[str]] = frozenset({"embed"})

    def __init__(self, *, split: str) -> None:
        self.split = split

    def run(self, subject: Subject) -> Report:
        from vocl.data.feed import whole_video

        clip = whole_video(subject.source(self.split)[0], subject.dataset, 0, 1, 0)
        patches = subject.model.embed(clip).shape[2]
        return Report("none", [], {"patches": patches}, {"patches": Measure(None, 1, 0)})
'''
CONF = {
    "trouble": "_target_: PACKAGE.trouble.Trouble\ndataset: null\nsplit: validation\nsigns: /nowhere\n",
    "dense": "_target_: PACKAGE.trouble.Dense\ndataset: null\nsplit: validation\n",
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project folder: the walks' evaluations, and some that go wrong. Its package stays on sys.path, so
    that has a name of its own."""
    package = f"ours_{uuid.uuid4().hex}"
    folder = project(tmp_path_factory.mktemp("project"), package)
    (folder / package / "trouble.py").write_text(TROUBLE)
    for name, text in CONF.items():
        text = text.replace("PACKAGE", package)
        (folder / "conf" / "eval" / f"{name}.yaml").write_text(f"# @package eval.{name}\n{text}")
    return folder
