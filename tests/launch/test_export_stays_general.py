"""What `vocl export` gives away of a site, of the people there and of what lies beside their code."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from acting import Sweep

from launch.cli import main
from vocl.config import identity, migrate
from vocl.config.check import check

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = ("lab_account", "lab_partition", "/lab/setup.sh", "/lab/env_file", "lab_qos")
CLUSTER = (
    "defaults: [slurm]  # ask lab_account\naccount: lab_account\npartition: lab_partition\nqos: lab_qos\n"
    "setup: [source /lab/setup.sh]\nenv_file: /lab/env_file\nsbatch: {reservation: lab_account}\n"
)
MARK = "the-content-of-a-private-file"


def _exported(sweep: Sweep, out: Path) -> Path:
    """The first run of `sweep`, done and exported."""
    run = sweep.ids[0]
    sweep.saves(run, 7)
    sweep.done(run)
    known = {"run_id": run, "steps": 7, "wall_s": 3.0, "device": "cpu", "code": "abc"}
    path = sweep.folder(run) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | known))
    assert main(["export", run, str(out), f"runtime.root={sweep.root}"]) == 0
    return out


def _assert_general(out: Path, tmp_path: Path) -> None:
    """Nothing in the folder names the site, this machine's folders, or holds a private file."""
    for path in out.rglob("*"):
        assert not path.is_symlink()
        if not path.is_file() or path.suffix == ".py":
            continue
        text = path.read_text(errors="replace")
        assert not [word for word in (*SITE, MARK, str(tmp_path)) if word in text], path


@pytest.fixture
def beside(declare: Any, tmp_path: Path) -> Path:
    """The package of the project of a sweep, with a cluster of its own and private files."""
    (package,) = (path.parent for path in (tmp_path / "project").glob("*/__init__.py"))
    for name in (".env", "id_rsa", "secrets.json"):
        (package / name).write_text(MARK)
        (package / name).chmod(0o600)
    (package / "shadow.txt").symlink_to(package / "secrets.json")
    (package / "model.py").write_text("WIDTH = 3\n")
    (package / "model.py").chmod(0o600)
    cluster = package.parent / "conf" / "cluster" / "lab.yaml"
    cluster.parent.mkdir(parents=True)
    cluster.write_text(CLUSTER)
    return package


def test_an_export_of_a_submitted_run_is_of_no_site(tmp_path, beside, sweep) -> None:
    lines = [f"cluster.{key}={value}" for key, value in (("account", SITE[0]), ("partition", SITE[1]))]
    it = sweep(*lines, f"+cluster.sbatch.reservation={SITE[0]}", f"cluster.setup=[source {SITE[2]}]")
    assert list((it.root / "snapshots").glob("*/project/conf/cluster/lab.yaml"))
    (entry,) = (p for p in (it.root / "ledger").glob("*.json") if not p.name.endswith(".job.json"))
    assert json.loads(entry.read_text())["cluster"]["account"] == SITE[0]
    assert yaml.safe_load((it.folder(it.ids[0]) / "config.yaml").read_text())["project"]
    out = _exported(it, tmp_path / "out")
    _assert_general(out, tmp_path)
    saved = yaml.safe_load((out / "config.yaml").read_text())
    assert identity.run_id(saved) == it.ids[0]
    assert saved["project"] == "code/project"
    assert saved["cluster"] == yaml.safe_load(migrate.PLACES["cluster"].read_text())
    own = {path.relative_to(out / "code" / "project").as_posix() for path in _files(out / "code" / "project")}
    assert own == {"conf/ablation/duo.yaml", f"{beside.name}/__init__.py", f"{beside.name}/model.py"}
    copy = out / "code" / "project" / beside.name / "model.py"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o400
    clusters = {path.name for path in (out / "code" / "conf" / "cluster").iterdir()}
    assert clusters == {"here.yaml", "local.yaml", "slurm.yaml"}
    card = (out / "README.md").read_text()
    assert "Trained by `vocl submit duo project=code/project`." in card
    assert set(json.loads((out / "code" / "snapshot.json").read_text())) == {"schema", "commit", "diff"}
    assert json.loads((out / "code" / "snapshot.json").read_text())["diff"] is None


def test_an_export_from_a_snapshot_of_before_these_rules(
    tmp_path, beside, sweep, monkeypatch, capsys
) -> None:
    it = sweep()
    (taken,) = (it.root / "snapshots").iterdir()
    (taken / "snapshot.json").unlink()
    (taken / "snapshot.json").write_text(json.dumps({"commit": "c0ffee", "diff": f"+ account: {SITE[0]}"}))
    for name in (".env", "id_rsa", "secrets.json", "shadow.txt"):
        (taken / "project" / beside.name / name).write_text(MARK)
    (taken / "conf" / "cluster" / "lab.yaml").write_text(CLUSTER)
    capsys.readouterr()
    out = _exported(it, tmp_path / "out")
    _assert_general(out, tmp_path)
    assert json.loads((out / "code" / "snapshot.json").read_text())["commit"] == "c0ffee"
    assert f"project/{beside.name}/secrets.json (named like a secret)" in capsys.readouterr().err


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if not path.is_dir()]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose cluster files somebody filled in, the shipped ones too."""
    folder = tmp_path / "checkout"
    for part in ("vocl", "launch", "conf", "hydra_plugins"):
        shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "pyproject.toml", folder)
    clusters = folder / "conf" / "cluster"
    (clusters / "lab.yaml").write_text(CLUSTER)
    (clusters / "example.yaml").write_text(CLUSTER)
    slurm = (clusters / "slurm.yaml").read_text()
    (clusters / "slurm.yaml").write_text(f"{slurm}account: lab_account\nsetup: [source /lab/setup.sh]\n")
    here = (clusters / "here.yaml").read_text()
    (clusters / "here.yaml").write_text(here.replace("partition: null", "partition: lab_partition"))
    runtime = (folder / "conf" / "runtime" / "default.yaml").read_text()
    runtime = runtime.replace("wandb_entity: null", "wandb_entity: our_team")
    (folder / "conf" / "runtime" / "default.yaml").write_text(
        runtime.replace("data_root: data", "data_root: /home/me/d")
    )
    (folder / "vocl" / ".env").write_text(MARK)
    return folder


def _vocl(code: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(code),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "launch.cli", *words]
    return subprocess.run(command, cwd=code.parent, env=environment, capture_output=True, text=True)


def test_an_export_from_a_checkout_with_clusters_of_its_own(tmp_path, checkout) -> None:
    """Of a run that no job trained, so that the code is the checkout's; the exported code composes."""
    from vocl.config.compose import compose

    root, config = tmp_path / "results", check(compose(["seed=0", "debug=tiny"]))
    run = config.run_id
    folder = root / "runs" / run
    (folder / "checkpoints").mkdir(parents=True)
    name = f"{6:09d}-{hashlib.blake2b(b'weights', digest_size=8).hexdigest()}.pt"
    (folder / "checkpoints" / name).write_bytes(b"weights")
    (folder / "config.yaml").write_text(yaml.safe_dump(config.content))
    result = {
        "run_id": run,
        "metrics": {},
        "evals": {},
        "steps": 6,
        "wall_s": 3.0,
        "device": "cpu",
        "code": "a",
    }
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "events").mkdir()
    start = {"attempt": 1, "time": 1.0, "step": 0, "world": 1, "device": "cpu", "threads": 1}
    command = ["train.py", "--config", str(folder / "config.yaml")]
    (folder / "events" / "0001-start.json").write_text(json.dumps(start | {"command": command}))

    out = tmp_path / "out"
    done = _vocl(checkout, "export", run, str(out), f"runtime.root={root}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "note: not among the copied code: vocl/.env (hidden)\n"
    saved = yaml.safe_load((out / "config.yaml").read_text())["runtime"]
    assert (saved["data_root"], saved["wandb_entity"]) == ("d", None)
    _assert_general(out, tmp_path)
    assert "Trained by `python -m vocl.train --config config.yaml`." in (out / "README.md").read_text()
    for kind in ("here", "local", "slurm"):
        done = _vocl(out / "code", "plan", "seed=0", f"cluster={kind}", f"runtime.root={tmp_path / 'r'}")
        assert done.returncode == 0, done.stderr
    assert run in _vocl(out / "code", "plan", "seed=0", "debug=tiny", f"runtime.root={tmp_path / 'r'}").stdout


@pytest.mark.parametrize(
    "name", ["eval/abc/extra.json", "eval/abc/rows.json", "checkpoints/frozen-0.safetensors", "result.json"]
)
def test_a_link_in_a_run_gives_no_private_file_away(tmp_path: Path, sweep: Any, name: str, capsys) -> None:
    """A colleague can put one into a run of a shared folder; who exports it can read what it leads to."""
    it, mine = sweep(), tmp_path / "mine.json"
    it.saves(it.ids[0], 7)
    it.done(it.ids[0])
    path = it.folder(it.ids[0]) / name
    mine.write_bytes(path.read_bytes() if path.is_file() else MARK.encode())
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(mine)
    capsys.readouterr()
    assert main(["export", it.ids[0], f"{tmp_path}/out", f"runtime.root={it.root}"]) == 2
    assert f"{path}: is a link" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_folder_that_is_a_colleagues_link_is_not_exported(
    tmp_path: Path, sweep: Any, monkeypatch, capsys
) -> None:
    it = sweep()
    it.saves(it.ids[0], 7)
    it.done(it.ids[0])
    mine, part = tmp_path / "mine", it.folder(it.ids[0]) / "eval"
    (mine / "abc").mkdir(parents=True)
    (mine / "abc" / "letter.json").write_text(MARK)
    part.symlink_to(mine)
    os.lchown(part, 54322, -1) if os.getuid() == 0 else None
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    capsys.readouterr()
    assert main(["export", it.ids[0], f"{tmp_path}/out", f"runtime.root={it.root}"]) == 2
    assert f"{part}: is a link of another user's" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["link", "project"])
def test_a_run_from_elsewhere_brings_neither_links_nor_code_into_an_export(
    tmp_path: Path, sweep: Any, kind: str, capsys
) -> None:
    it = sweep()
    it.saves(it.ids[0], 7)
    it.done(it.ids[0])
    folder = Path(shutil.copytree(it.folder(it.ids[0]), tmp_path / "foreign"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if kind == "link":
        config["project"] = None
        (folder / "more").symlink_to(tmp_path)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    capsys.readouterr()
    assert main(["export", str(folder), f"{tmp_path}/out", f"runtime.root={it.root}"]) == 2
    told = "more: is a link" if kind == "link" else "names code of its own (project)"
    assert told in capsys.readouterr().err and not (tmp_path / "out").exists()
