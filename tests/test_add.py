"""`vocl eval`: more scores of a run that is trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
from running import at_step, result, run_folder, send, tiny

from vocl import run
from vocl.commands import evaluate, verbs
from vocl.evaluate.discovery import Discovery
from vocl.rundir.of_config import run_dir_of


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    config = tiny(tmp_path_factory.mktemp("results"), "train.steps=2")
    assert run.run(config) == 0
    return config


def main(config, *overrides):
    return verbs.evaluate([run_folder(config).name, f"runtime.root={config.runtime.root}", *overrides])


def test_another_setting_is_another_evaluation(trained, monkeypatch, capsys):
    folder = run_folder(trained)
    before = result(trained)
    weights = {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").iterdir()}
    assert main(trained, "eval=[discovery]", "eval.discovery.options.cyclic=true") == 0
    after = result(trained)
    assert list(after["evals"]) == ["discovery", "discovery:cyclic=true"]
    assert (
        after["metrics"] == before["metrics"] and after["evals"]["discovery"] == before["evals"]["discovery"]
    )
    entry = after["evals"]["discovery:cyclic=true"]
    assert entry["eval_id"] != before["evals"]["discovery"]["eval_id"]
    assert len(json.loads((folder / entry["rows"]).read_text())) == 2
    assert weights == {p: p.stat().st_mtime_ns for p in (folder / "checkpoints").iterdir()}
    shown = capsys.readouterr().out

    def never(*_):
        raise AssertionError("evaluated twice")

    monkeypatch.setattr(Discovery, "run", never)
    assert main(trained, "eval.discovery.options.cyclic=true") == 0
    assert capsys.readouterr().out == shown
    assert result(trained) == after


def test_protocols_masks_and_names(trained):
    protocol = "eval/protocol@eval.discovery.protocol=slotcontrast"
    assert main(trained, protocol, "runtime.keep_masks=true", "eval.discovery.max_videos=1") == 0
    name = "discovery:max_videos=1,protocol=slotcontrast"
    entry = result(trained)["evals"][name]
    assert entry["protocol"] == "slotcontrast" and entry["num_videos"] == 1
    (masks,) = (run_folder(trained) / "eval" / entry["eval_id"] / "masks").iterdir()
    kept = np.load(masks)["masks"]
    assert kept.dtype == np.uint8 and kept.shape == (4, 4, 16)  # t k n
    assert abs(kept.astype(int).sum(1) - 255).max() <= 4


def test_the_runs_own_settings_are_the_base(trained, tmp_path):
    saved = run_dir_of(trained).config()
    saved.eval["discovery"].part["window"] = 7
    saved.eval["discovery"].part["options"]["cyclic"] = True
    config = evaluate.requested(saved, ["eval.discovery.options.iterations=5"])
    settings = config.eval["discovery"].part
    assert (settings["window"], settings["options"]) == (
        7,
        saved.eval["discovery"].part["options"] | {"iterations": 5},
    )
    config = evaluate.requested(
        saved, ["eval.discovery.options.cyclic=false"]
    )  # said, though it is the default
    assert config.eval["discovery"].part["options"]["cyclic"] is False
    assert evaluate.requested(saved, ["eval=[]"]).eval == {}
    assert config.dataset == saved.dataset


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    cases = [
        ["train.steps=9"],
        ["eval=[discover]"],
        ["eval.discovery.window=0"],
        ["eval.discovery.windows=3"],
        ["eval.discovery.split=nowhere"],
        ["runtime.root=" + str(tmp_path)],
    ]
    for overrides in cases:
        assert main(trained, *overrides) == 2, overrides
        out, err = capsys.readouterr()
        assert len(err.splitlines()) == 1 and not out, (overrides, out, err)


def test_a_run_that_is_not_finished_is_refused(tmp_path, monkeypatch, capsys):
    import signal

    config = tiny(tmp_path)
    at_step(monkeypatch, 2, send(signal.SIGTERM))
    assert run.run(config) == 75
    assert main(config) == 2
    assert "has not finished" in capsys.readouterr().err


def test_evaluations_that_were_stopped_go_on(trained, monkeypatch):
    import signal

    with monkeypatch.context() as patch:
        score = Discovery._score
        patch.setattr(Discovery, "_score", lambda *a: (send(signal.SIGTERM)(), score(*a))[1])
        assert main(trained, "eval.discovery.options.iterations=4") == 75
    assert "discovery:iterations=4" not in result(trained)["evals"]
    assert main(trained, "eval.discovery.options.iterations=4") == 0
    assert "discovery:iterations=4" in result(trained)["evals"]


@pytest.mark.parametrize("content", ["", "[]", '{"evals": {}}'])
def test_a_damaged_result_is_one_line(trained, content, capfd):
    path = run_folder(trained) / "result.json"
    before = path.read_text()
    path.write_text(content)
    try:
        assert main(trained, "eval.discovery.options.iterations=5") == 2
    finally:
        path.write_text(before)
    error = capfd.readouterr().err
    assert error.count("\n") == 1 and "result.json: damaged" in error and "vocl retry" in error


def test_imported_weights_get_a_result(trained, tmp_path):
    """A folder with a config and a checkpoint, and no attempt to train."""
    import shutil

    folder = tmp_path / "imported"
    shutil.copytree(run_folder(trained), folder)
    shutil.rmtree(folder / "events")
    shutil.rmtree(folder / "eval")
    (folder / "result.json").unlink()
    assert verbs.evaluate([str(folder)]) == 0
    content = json.loads((folder / "result.json").read_text())
    assert content["attempts"] == 0 and content["metrics"] == pytest.approx(result(trained)["metrics"])
