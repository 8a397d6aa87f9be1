"""What trackers are shown beside scalars, and that trackio is shown the same as W&B."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import signal
import sys
import time

import av
import numpy as np
import pytest
import torch
import wandb_files
from PIL import Image
from running import TINY, at_step, final, result, run_folder, same, send, tiny
from trackers import of_trackio, patience, with_trackio  # noqa: F401 (patience is of every test)
from wandb_server import KEY, server

from launch.cli import main
from launch.commands.sharing import sync
from vocl import run, train
from vocl.commands.pictures.similarity import between_frames, consistency, cosines
from vocl.commands.pictures.tracked import draw
from vocl.config.wandb_names import artifact_name
from vocl.errors import UserError
from vocl.rundir.run_dir import RunDir
from vocl.tracking import media, mirror

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


def trained(root, *overrides):
    """A run that is done, drawn and mirrored."""
    config = tiny(root, *overrides)
    assert run.run(config, draw=draw) == 0
    return config, run_folder(config)


def whole(config, folder):
    """Asserts that the records of a run that is done are whole."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(12))
    assert result(config)["metrics"] and (folder / "events" / "0001-done.json").is_file()


# ------------------------------------------------------------------------------------- pictures


def test_the_diagonal_of_the_similarity_is_temporal_consistency():
    still = torch.nn.functional.one_hot(torch.arange(3)).float().expand(4, 3, 3)
    assert consistency(still) == pytest.approx(1)
    assert torch.equal(cosines(still[0], still[1]), torch.eye(3))
    swapped = still.clone()
    swapped[1::2] = swapped[1::2, [1, 0, 2]]
    assert consistency(swapped) == pytest.approx(1 / 3)
    assert (between_frames(still) == between_frames(still)).all()
    assert (between_frames(still) != between_frames(swapped)).any()
    assert float(cosines(torch.zeros(1, 3), torch.ones(1, 3))) == 0


def test_pictures_of_as_many_videos_as_asked_and_none_untracked(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "command", lambda *_: [sys.executable, "-c", "input()"])
    _, folder = trained(tmp_path, "runtime.tracking=offline", "runtime.tracking_media=1")
    pictures = media.read(RunDir(folder).media)
    assert [picture.key for picture in pictures] == ["overlay/1", "similarity/1"]
    with av.open(str(pictures[0].path)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 4 and frames[0].shape == (128, 256, 3)  # the frame and its slots, side by side
    assert np.array(Image.open(pictures[1].path)).ndim == 3 and "on the diagonal" in pictures[1].caption
    assert sum(path.stat().st_size for path in (folder / "media").iterdir()) < 100_000
    _, folder = trained(tmp_path / "none", "runtime.tracking=offline", "runtime.tracking_media=0")
    assert not (folder / "media").exists()
    _, folder = trained(tmp_path / "untracked")
    assert not (folder / "media").exists()


def test_the_command_draws(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "command", lambda *_: [sys.executable, "-c", "input()"])
    words = [*TINY, f"runtime.root={tmp_path}", "runtime.tracking=offline"]
    assert train.main(words) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    keys = [picture.key for picture in media.read(RunDir(folder).media)]
    assert keys == ["overlay/1", "similarity/1", "overlay/2", "similarity/2"]


def test_what_cannot_be_drawn_leaves_the_run_done(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(mirror, "command", lambda *_: [sys.executable, "-c", "input()"])

    def fails(*_):
        raise RuntimeError("no encoder")

    config = tiny(tmp_path, "runtime.tracking=offline")
    assert run.run(config, draw=fails) == 0
    whole(config, run_folder(config))
    assert "no pictures for the tracker: RuntimeError: no encoder" in capfd.readouterr().err


def test_a_stop_while_pictures_are_drawn_leaves_the_run_done(tmp_path, monkeypatch):
    monkeypatch.setattr(mirror, "command", lambda *_: [sys.executable, "-c", "input()"])

    def stopped(config, model, run, device, advance):
        send(signal.SIGTERM)()
        advance()
        raise AssertionError("it went on")

    config = tiny(tmp_path, "runtime.tracking=offline")
    assert run.run(config, draw=stopped) == 0
    whole(config, run_folder(config))
    assert media.read(RunDir(run_folder(config)).media) == []


def test_a_link_among_the_pictures_is_not_shown(tmp_path):
    place, secret = RunDir(tmp_path / "run"), tmp_path / "secret.png"
    secret.write_text("of somebody else")
    place.media.mkdir(parents=True)
    (place.media / "a.png").symlink_to(secret)
    (place.media / "b.png").touch()
    names = ["a.png", "b.png", "../../secret.png", "absent.png"]
    media.write(place.media, [media.Picture(name, place.media / name, "") for name in names])
    index = json.loads((place.media / "index.json").read_text())
    index["pictures"][2]["file"] = "../../secret.png"
    (place.media / "index.json").write_text(json.dumps(index))
    assert [picture.key for picture in media.read(place.media)] == ["b.png"]


# ------------------------------------------------------------------------------------------ W&B


@pytest.mark.slow
def test_offline_pictures_and_checkpoint_go_up_once_and_anywhere(tmp_path, monkeypatch, capsys):
    _, folder = trained(tmp_path, "runtime.tracking=offline", "runtime.tracking_checkpoints=true")
    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert sync.main([str(folder)]) == 0
        row = runs.runs[folder.name]["history"][-1]
        assert row["step"] == 12 and row["overlay/1"]["_type"] == "video-file"
        assert row["similarity/2"]["caption"].startswith("validation/00001: ")
        sent = [name for name in runs.files if name.startswith("media/")]
        assert len(sent) == 4 and runs.files[row["overlay/1"]["path"]].startswith(b"\0\0\0")
        (checkpoint,) = (folder / "checkpoints").glob("000000012-*.pt")
        kept = runs.artifacts[f"checkpoint-{folder.name}"]
        assert kept["committed"] and kept["type"] == "model"
        assert kept["files"][checkpoint.name] == checkpoint.read_bytes()
        places = [body for body in runs.bodies if str(tmp_path).encode() in body]
        assert places == [kept["files"]["manifest"]]  # the client's doing: docs/tracking.md
        before = len(runs.bodies)
        assert sync.main([str(folder)]) == 0 and len(runs.bodies) == before
        assert "nothing new" in capsys.readouterr().out
        elsewhere = [str(folder), "runtime.wandb_project=other", "runtime.wandb_entity=team"]
        assert sync.main(elsewhere) == 0
        assert runs.places[0] == (None, "vocl") and ("team", "other") in runs.places
        before = len(runs.bodies)
        assert sync.main(elsewhere) == 0 and len(runs.bodies) == before


@pytest.mark.slow
def test_online_pictures_and_checkpoint(tmp_path, monkeypatch):
    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        _, folder = trained(tmp_path, "runtime.tracking=online", "runtime.tracking_checkpoints=true")
        history = runs.runs[folder.name]["history"]
        assert [row["step"] for row in history] == list(range(13)) and "overlay/2" in history[-1]
        assert runs.artifacts[f"checkpoint-{folder.name}"]["committed"]
        assert runs.runs[folder.name]["summary"]["outcome"] == "done"
        assert sync.main([str(folder), "runtime.wandb_project=other"]) == 0
        assert runs.places[0] == (None, "vocl") and (None, "other") in runs.places


@pytest.mark.slow
def test_a_wrong_key_keeps_a_run_offline_for_a_right_one(tmp_path, monkeypatch, capfd):
    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        monkeypatch.setenv("WANDB_API_KEY", "b" * 40)
        config, folder = trained(tmp_path, "runtime.tracking=online")
        whole(config, folder)
        (line,) = [line for line in capfd.readouterr().err.splitlines() if "W&B" in line]
        assert "kept offline" in line and "not affected" in line
        assert sync.main([str(folder)]) == 1 and runs.runs == {}
        whole(config, folder)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert sync.main([str(folder)]) == 0
        assert [row["step"] for row in _rows(runs, config)] == list(range(13))


@pytest.mark.slow
def test_the_network_goes_in_the_middle_of_a_run(tmp_path, monkeypatch, capfd):
    plain = tiny(tmp_path / "plain")
    assert run.run(plain) == 0
    monkeypatch.setattr(mirror, "FLUSH_S", 8.0)
    config = tiny(tmp_path, "runtime.tracking=online", "runtime.tracking_checkpoints=true")
    monkeypatch.setattr(mirror, "CHECKPOINT_S", 4.0)
    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)

        def cut():
            until = time.monotonic() + 40
            while not _rows(runs, config) and time.monotonic() < until:
                time.sleep(0.1)
            assert _rows(runs, config)
            runs.shutdown()
            runs.server_close()

        at_step(monkeypatch, 6, cut)
        began = time.monotonic()
        assert run.run(config, draw=draw) == 0
        assert time.monotonic() - began < 80
    whole(config, run_folder(config))
    same(final(config), final(plain))
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "W&B" in line]
    assert "not affected" in line and "vocl sync" in line
    with server() as runs:  # it comes back, empty: all of it goes up from the records
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        assert sync.main([str(run_folder(config))]) == 0
        assert [row["step"] for row in _rows(runs, config)] == list(range(13))


def _rows(runs, config):
    return runs.runs.get(run_folder(config).name, {"history": []})["history"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", pytest.param("trackio", marks=with_trackio)])
def test_probes_reach_a_tracker_with_their_picture(tmp_path, capfd, mode):
    words = [*TINY, f"runtime.root={tmp_path}", f"runtime.tracking={mode}", "runtime.tracking_media=0"]
    assert train.main([*words, "runtime.log_every=3", "runtime.probe_every=4"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    if mode == "trackio":
        (rows,) = of_trackio(tmp_path / "trackio").values()
    else:
        (file,) = wandb_files.folders(folder)
        rows = wandb_files.rows(file)
    shown = {row["step"]: row for row in rows if "probe/discovery/video_fg_ari" in row}
    assert sorted(shown) == [4, 8] and shown[4]["probe_s"] > 0
    assert "loss" not in shown[4] and "loss" in shown[8]  # steps 2, 5, 8 and 11 are reported
    assert any("probe/picture" in key or "probe_picture" in key for key in shown[4]), shown[4]
    assert "not affected" not in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["offline", pytest.param("trackio", marks=with_trackio)])
def test_a_tracker_without_room_for_its_files(tmp_path, monkeypatch, capfd, mode):
    """Every file of its process is cut at some bytes, as on a disk that is full by then."""
    command = mirror.command
    limit = (
        "import os, resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({4096}, {resource.RLIM_INFINITY})); "
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    monkeypatch.setattr(mirror, "command", lambda *_: [sys.executable, "-c", limit, *command(*_)])
    config, folder = trained(tmp_path, f"runtime.tracking={mode}")
    whole(config, folder)
    said = capfd.readouterr().err
    assert sum("not affected" in line for line in said.splitlines()) == 1, said
    monkeypatch.setattr(mirror, "command", command)
    with server() as runs:
        monkeypatch.setenv("WANDB_BASE_URL", runs.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        assert sync.main([str(folder)]) == 0
        if mode == "offline":
            assert [row["step"] for row in _rows(runs, config)] == list(range(13))
    if mode == "trackio":
        (rows,) = of_trackio(tmp_path / "trackio").values()
        assert {row["step"] for row in rows} == set(range(13))


# -------------------------------------------------------------------------------------- trackio


@pytest.mark.parametrize(
    "words",
    [
        ["runtime.tracking=trackio", "runtime.wandb_project=a.b"],
        ["runtime.tracking=trackio", "runtime.wandb_project=registry-a"],
        ["runtime.tracking=trackio", "runtime.wandb_project=a_system"],
        ["runtime.wandb_entity=a/b"],
        ["runtime.wandb_entity=' '"],
        ["runtime.tracking=tensorboard"],
        ["runtime.tracking_media=-1"],
    ],
)
def test_a_plan_refuses_what_a_tracker_would(tmp_path, capsys, words):
    assert main(["plan", *words, f"runtime.root={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{words[-1].split('=')[0]}") and error.count("\n") == 1


def test_what_a_tracker_does_not_read_of_the_environment(monkeypatch):
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL", "TRACKIO_WEBHOOK_URL", "HF_TOKEN", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("TRACKIO_DIR", "~/shown")
    passed = mirror.environment()
    assert "x" not in passed.values() and passed["TRACKIO_DIR"] == os.path.expanduser("~/shown")


def test_artifacts_get_names_that_trackers_take():
    names = ["checkpoint-f902f2336e", "table-demo", "table-[a] *x", "table-(a) *x", "table-表", "x" * 200]
    found = [artifact_name(name) for name in names]
    assert found[:2] == names[:2] and len(set(found)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", name) for name in found)


def test_without_trackio_a_run_is_refused_before_it_begins(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *_: None if name == "trackio" else find(name)
    )
    config = tiny(tmp_path, "runtime.tracking=trackio")
    with pytest.raises(UserError, match=r"runtime.tracking=trackio: .*vocl\[trackio\]"):
        run.run(config)
    assert main(["plan", "runtime.tracking=trackio", f"runtime.root={tmp_path}"]) == 0
    assert "warning: runtime.tracking=trackio: " in capsys.readouterr().out


@with_trackio
@pytest.mark.slow
def test_trackio_is_shown_the_same_through_a_stop(tmp_path, monkeypatch, capfd):
    config = tiny(tmp_path, "runtime.tracking=trackio", "runtime.tracking_checkpoints=true")
    folder = run_folder(config)
    with monkeypatch.context() as patch:
        at_step(patch, 4, send(signal.SIGTERM))
        assert run.run(config, draw=draw) == 75
    assert run.run(config, draw=draw) == 0
    ((name, rows),) = of_trackio(tmp_path / "trackio").items()
    assert name == f"Recurrent synthetic s0 {config.run_id}"
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows[:12]] == list(range(12))
    assert [row["loss"] for row in rows[:12]] == [record["loss"] for record in records]
    later = {key: value for row in rows[12:] for key, value in row.items()}
    assert later["step"] == 12 and later["overlay/2"]["_type"] == "trackio.video"
    assert later["similarity/1"]["_type"] == "trackio.image"
    assert (tmp_path / "trackio" / "media" / later["overlay/1"]["file_path"]).is_file()
    assert later["discovery/video_fg_ari"] == result(config)["metrics"]["video_fg_ari"]
    assert list((tmp_path / "trackio" / "artifacts").rglob("sha256/*/*"))
    assert "not affected" not in capfd.readouterr().err
    assert sync.main([str(folder)]) == 0  # nothing twice
    assert of_trackio(tmp_path / "trackio") == {name: rows}


@with_trackio
@pytest.mark.slow
def test_any_run_can_be_shown_in_trackio_later(tmp_path):
    _, folder = trained(tmp_path)
    elsewhere = ["runtime.tracking=trackio", "runtime.wandb_project=later"]
    assert sync.main([str(folder), *elsewhere]) == 0
    (rows,) = of_trackio(tmp_path / "trackio", "later").values()
    assert {row["step"] for row in rows} == set(range(13))
