"""`vocl verify` on small checkpoints with the releases' names and a folder of frames."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from launch.cli import main
from launch.tables.claims import claims
from launch.tables.reproduced import keep, write
from vocl import assemble
from vocl.commands import verbs
from vocl.config.compose import composed, group_choices
from vocl.reference import importer
from vocl.rundir.results_root import ResultsRoot

SMALL = {
    "backbone": "tiny_vit",
    "dataset": "files",
    "dataset.name": "frames",
    "dataset.size_px": "[28,42]",
    "model.num_slots": 4,
    "model.slot_dim": 8,
    "model.adapter.hidden_ratio": 2,
    "backbone.block": 2,
}
EXTRA = {
    "smtc": {  # None: it has no such key
        "model.num_slots": None,
        "model.adapter.hidden_ratio": None,
        "model.slot_dim": "null",
        "model.correspondence.project": "false",
    },
    "slotcurri": {"curriculum.stages.more.active_slots": 3},
    "videosaur": {"model.predictor.num_heads": 2, "model.decoder.num_heads": 2},
    "solv": {"model.temporal.num_heads": 2},
}
# Experiment that a small checkpoint's sizes are taken from, where it is not movi_c
BASE = {"smtc": "smtc/synthetic", "solv": "solv/movi_e"}
# A backbone alone claims nothing.
METHODS = [name for name in importer.methods() if not hasattr(importer.find_method(name), "NEW")]


def released(method: ModuleType, own: str) -> str:
    """The release's name of our weight `own`: its map read backwards."""
    for pattern, replacement in method.KEYS:
        groups = re.findall(r"\((?!\?:)(?:\(\?:[^)]*\)|[^()])*\)", pattern)
        back = re.escape(replacement)
        template = pattern.replace("\\.", ".")
        for index, group in enumerate(groups, 1):
            back = back.replace(f"\\\\{index}", group)
            template = template.replace(group.replace("\\.", "."), f"\\g<{index}>")
        match = re.fullmatch(back, own)
        if match and importer.rename(method, match.expand(template)) == own:
            return match.expand(template)
    raise AssertionError(own)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Two held-out videos of a square that moves."""
    root = tmp_path_factory.mktemp("data")
    for number in range(2):
        video = root / "frames" / "validation" / f"v{number}"
        for kind in ("frames", "masks"):
            (video / kind).mkdir(parents=True)
        for t in range(3):
            label = np.zeros((28, 42), np.uint8)
            label[4 : 18 + number, 5 * t : 5 * t + 12] = 1
            label[20:, 30:] = 2
            Image.fromarray(label).save(video / "masks" / f"{t}.png")
            Image.fromarray(np.stack([label * 90] * 3, -1)).save(video / "frames" / f"{t}.png")
    return root


class Place:
    """A project folder whose conf/ claims scores of small checkpoints, and the command on it."""

    def __init__(self, tmp: Path, data: Path, method: str) -> None:
        self.root, self.data, self.name = tmp / "results", data, method
        self.project, self.file = tmp / "project", tmp / "model.ckpt"
        self.arguments = [f"project={self.project}", f"runtime.root={self.root}", "runtime.threads=1"]
        package = self.project / f"mine_{uuid.uuid4().hex}"  # a name per test, as it stays on sys.path
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        experiment = self.project / "conf" / "experiment" / method / "frames.yaml"
        experiment.parent.mkdir(parents=True)
        self.base = BASE.get(method, f"{method}/movi_c")
        text = f"# @package _global_\ndefaults:\n  - {self.base}\n"
        experiment.write_text(text)
        settings = {**SMALL, **EXTRA.get(method, {})}
        self.settings = [f"{key}={value}" for key, value in settings.items() if value is not None]
        self.publish(video_fg_ari=0.5)

    def publish(self, tolerance: float = 0.01, row: str = "Theirs", **scores: float) -> None:
        claim = {"row": row, "column": "small", "tolerance": dict.fromkeys(scores, tolerance)}
        content = {
            "protocol": self.name,
            "verify": {"frames": {**claim, "note": "three frames"}},
            "rows": {"Theirs": {"small": {"video_fg_ari": 0.5, "video_mbo": 0.5, **scores}}},
        }
        path = self.project / "conf" / "published" / f"{self.name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))

    def save(self) -> None:
        """A checkpoint with the names of a release's."""
        method = importer.find_method(self.name)
        config = composed([f"experiment={self.base}", *self.settings])
        torch.manual_seed(0)
        own = assemble.make_model(config, pretrained=False).state_dict()
        made = [pattern for pattern, _ in getattr(method, "COPIED", ())]  # what the import makes itself
        outside = getattr(method, "OUTSIDE", ())
        held = {n: t for n, t in own.items() if not any(re.fullmatch(pattern, n) for pattern in made)}
        held = {n: t for n, t in held.items() if not n.startswith(outside)}
        torch.save({"state_dict": {released(method, n): t for n, t in held.items()}}, self.file)

    def verify(self, *more: str) -> int:
        arguments = [*self.arguments, f"runtime.data_root={self.data}", *self.settings, *more]
        return main(["verify", f"{self.name}/frames", str(self.file), *arguments])

    def record(self) -> dict:
        (path,) = self.root.glob(f"tables/reproduced/{self.name}/*.json")
        return json.loads(path.read_text())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, data: Path) -> bytes:
    made = Place(tmp_path_factory.mktemp("file"), data, "slotcontrast")
    made.save()
    return made.file.read_bytes()


@pytest.fixture
def place(tmp_path: Path, data: Path, checkpoint: bytes) -> Place:
    made = Place(tmp_path, data, "slotcontrast")
    made.file.write_bytes(checkpoint)
    return made


def complaint(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def verdicts(text: str) -> dict[str, str]:
    return {line.split()[0]: line.split()[-1] for line in text.splitlines() if "  ours " in line}


def test_within_and_outside(place: Place, capsys) -> None:
    place.publish(tolerance=1.0, video_fg_ari=0.5, video_mbo=0.5)
    assert place.verify() == 0
    out = capsys.readouterr().out
    assert verdicts(out) == {"video_fg_ari": "within", "video_mbo": "within"}
    assert "published 50.0 ± 100.0" in out and "note: three frames" in out
    record = place.record()
    found = record["metrics"]
    assert record["within"] and record["num_videos"] == 2 and record["protocol"] == "slotcontrast"

    exact = {name: score["ours"] for name, score in found.items()}
    place.publish(tolerance=0.001, video_fg_ari=exact["video_fg_ari"], video_mbo=exact["video_mbo"] + 0.002)
    assert place.verify() == 1
    assert verdicts(capsys.readouterr().out) == {"video_fg_ari": "within", "video_mbo": "outside"}
    again = place.record()
    assert not again["within"] and again["run"] == record["run"]
    assert {name: score["ours"] for name, score in again["metrics"].items()} == exact
    table = (place.root / "tables" / "reproduced" / "table.md").read_text()
    assert "| outside " in table and record["code"] in table and record["date"][:10] in table


def test_the_import_is_a_run_of_its_own_that_loads(place: Place, capsys) -> None:
    place.publish(tolerance=1.0, video_fg_ari=0.5)
    assert place.verify() == 0
    record = place.record()
    assert not (place.root / "runs").exists()
    assert (place.root / record["run"] / "events" / "0001-imported.json").is_file()
    assert len(record["sha256"]) == 64 and record["file"] == "model.ckpt"
    (report,) = (place.root / record["run"]).glob("verified/*/eval/*/report.json")
    stored = json.loads(report.read_text())
    assert report.parents[2].name == record["code"]
    assert stored["eval"]["protocol"]["name"] == "slotcontrast"
    assert stored["metrics"]["video_fg_ari"] == record["metrics"]["video_fg_ari"]["ours"]


def test_other_settings_than_the_papers_are_told_and_stand_apart(place: Place, capsys) -> None:
    place.publish(tolerance=1.0, video_fg_ari=0.5)
    assert place.verify("eval.discovery.max_videos=1") == 0
    out = capsys.readouterr().out
    assert "1 videos" in out
    assert "not the paper's settings:" in out and "eval.discovery.max_videos=1" in out
    assert main(["verify", *place.arguments]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if "| slotcontrast" in line]
    assert [("not yet run" in row, "max_videos=1" in row) for row in rows] == [(False, True), (True, False)]


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name != "slotcontrast"])
def test_every_method_with_an_importer(method: str, tmp_path: Path, data: Path, capsys) -> None:
    place = Place(tmp_path, data, method)
    place.save()
    place.publish(tolerance=1.0, video_fg_ari=0.5)
    assert place.verify() == 0, capsys.readouterr().err
    assert (place.root / place.record()["run"]).parent == place.root / "imported" / method


def test_a_projects_own_method_and_names(place: Place, capsys) -> None:
    """Published scores, experiment and importer of a method that this repository does not know."""
    (package,) = place.project.glob("mine_*")
    (package / "reference").mkdir()
    (package / "reference" / "theirs.py").write_text(
        "from vocl.reference.slotcontrast import DECIDED_BY, KEYS as KNOWN\n"
        "KEYS = ((r'initializer\\.queries', 'initializer.slots'), *KNOWN)\n"
    )
    experiment = place.project / "conf" / "experiment" / "theirs" / "frames.yaml"
    experiment.parent.mkdir()
    experiment.write_text("# @package _global_\ndefaults:\n  - slotcontrast/movi_c\n")
    place.publish(tolerance=1.0, video_fg_ari=0.5, **{"discovery/video_mbo": 0.5})
    published = place.project / "conf" / "published"
    text = (published / "slotcontrast.yaml").read_text()
    (published / "theirs.yaml").write_text(text)
    given = torch.load(place.file, weights_only=True)["state_dict"]
    given["initializer.queries"] = given.pop("initializer.slots")
    torch.save({"state_dict": given}, place.file)
    assert place.verify() == 2
    assert "unknown initializer.slots" not in (line := complaint(capsys)) and "initializer.queries" in line
    place.name = "theirs"
    assert place.verify() == 0, capsys.readouterr().err
    assert verdicts(capsys.readouterr().out) == {"discovery/video_mbo": "within", "video_fg_ari": "within"}
    assert place.record()["run"].startswith("imported/theirs/")
    assert "theirs" in importer.methods(str(place.project)) and "theirs" not in importer.methods()
    arguments = [*place.settings, f"project={place.project}", "experiment=theirs/frames"]
    assert verbs.import_(["theirs", str(place.file), str(place.root / "out"), *arguments]) == 0
    (published / "others.yaml").write_text(text)
    place.name = "others"
    assert place.verify() == 2
    assert "reference/others.py in a package of project=PATH; choose a method from" in complaint(capsys)
    (published / "others.yaml").write_text("importer: theirs\n" + text)
    experiment.parent.rename(experiment.parent.with_name("others"))
    assert place.verify() == 0, capsys.readouterr().err


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["nothing/movi_c", "x.ckpt"], ["nothing/movi_c: no such method", "slotcontrast"]),
        (["slotcontrast/nothing", "x.ckpt"], ["no such dataset, choose from slotcontrast/movi_c"]),
        (["slotcontrast", "x.ckpt"], ["slotcontrast: no such dataset, choose from slotcontrast/movi_c"]),
        (["slotcontrast/movi_c"], ["usage: vocl verify METHOD/DATASET FILE", "slotcontrast/movi_e"]),
        (["slotcontrast/movi_c", "absent.ckpt"], ["absent.ckpt: no such checkpoint file"]),
        (["solv/ytvis2019", "absent.ckpt"], ["absent.ckpt: no such checkpoint file"]),
    ],
)
def test_what_cannot_be_verified(arguments: list[str], parts: list[str], tmp_path: Path, capsys) -> None:
    assert main(["verify", *arguments, f"runtime.root={tmp_path}"]) == 2
    line = complaint(capsys)
    assert all(part in line for part in parts), line
    assert not list(tmp_path.iterdir())


def test_a_folder_of_data_that_is_not_there(place: Place, tmp_path: Path, capsys) -> None:
    assert place.verify(f"runtime.data_root={tmp_path / 'nowhere'}") == 2
    assert "nowhere/frames: no such folder" in complaint(capsys)
    assert not place.root.exists()


def test_a_checkpoint_of_another_method(place: Place, capsys) -> None:
    torch.save({"state_dict": {"decoder.module.allocator.x": torch.ones(1)}}, place.file)
    assert place.verify() == 2
    assert "not a checkpoint of slotcontrast: unknown decoder.module.allocator.x" in complaint(capsys)
    assert not place.root.exists() or not list(place.root.rglob("config.yaml"))


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("experiment=slotcontrast/movi_e", "experiment=slotcontrast/movi_e: METHOD/DATASET decides this"),
        ("eval/protocol@eval.discovery.protocol=vocl", "METHOD/DATASET decides this"),
    ],
)
def test_what_the_name_decides(place: Place, capsys, override: str, part: str) -> None:
    assert place.verify(override) == 2
    assert part in complaint(capsys)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"row": "Ours", "video_fg_ari": 0.5}, "verify.frames.row=Ours: no such name, choose from Theirs"),
        ({"tolerance": -1.0, "video_fg_ari": 0.5}, "tolerance.video_fg_ari=-1.0: expected a fraction >= 0"),
        ({}, "verify.frames.tolerance: missing or empty"),
    ],
)
def test_a_claim_that_says_nothing_sound(place: Place, capsys, settings: dict, part: str) -> None:
    place.publish(**settings)
    assert place.verify() == 2
    assert part in complaint(capsys)


def test_a_score_that_nothing_measures(place: Place, capsys) -> None:
    place.publish(video_magic=0.5)
    assert place.verify() == 2
    line = complaint(capsys)
    assert "no evaluation gives video_magic, choose from " in line and "video_fg_ari" in line


def test_every_claim_has_its_experiment_and_protocol() -> None:
    found = claims(None)
    assert set(METHODS) <= set(found)
    for method, own in found.items():
        assert method in group_choices("eval/protocol")
        for claim in own.values():
            assert claim.name in group_choices("experiment")
            assert claim.protocol in group_choices("eval/protocol")
            assert (claim.no_importer is None) == (method in METHODS)
            assert all(0 < tolerance < 0.05 for tolerance in claim.tolerance.values())


def test_only_the_papers_settings_reproduce(tmp_path: Path) -> None:
    claim = claims(None)["slotcontrast"]["movi_c"]
    found = claim.compare({"video_fg_ari": 0.698, "video_mbo": 0.327})
    record = {
        "method": "slotcontrast",
        "dataset": "movi_c",
        "within": all(score["within"] for score in found.values()),
        "metrics": found,
        "settings": [],
        "run": "imported/slotcontrast/x",
        "code": "abc",
        "date": "2026-01-02T03:04:05Z",
    }
    keep(ResultsRoot(tmp_path), claim, record)
    (row,) = [
        line
        for line in write(ResultsRoot(tmp_path), None).splitlines()
        if "| movi_c " in line and "abc" in line
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    scores = "video_fg_ari 69.80 (69.3 ± 0.5), video_mbo 32.70 (32.7 ± 0.5)"
    assert cells[2:] == ["yes", scores, "imported/slotcontrast/x", "abc", "2026-01-02"]
    nan = claim.compare({"video_fg_ari": None, "video_mbo": float("nan")})
    assert not any(score["within"] for score in nan.values())
