"""`vocl publish` against a Hub of this machine: what is pushed is what `vocl export` makes."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from acting import Sweep

from launch.cli import main


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a push of small files meets."""

    asked: ClassVar[list[str]] = []
    pushed: ClassVar[dict[str, bytes]] = {}

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.asked.append(f"{self.path} {self.headers.get('authorization')}")
        if self.path.endswith("/create"):
            return self._answer({"url": f"http://{self.headers['host']}/me/model"})
        if "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(sent)["files"]]
            kinds = [{"path": p, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for p in paths]
            return self._answer({"files": kinds})
        if "/commit/" in self.path:
            for line in map(json.loads, sent.splitlines()):
                if line["key"] == "file":
                    self.pushed[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            where = f"http://{self.headers['host']}/me/model/commit/1"
            commit = {"commitUrl": where, "commitOid": "1", "hookOutput": ""}
            return self._answer(commit | {"success": True})
        return self._answer({})

    def _answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    import huggingface_hub.constants as constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    Hub.asked.clear()
    Hub.pushed.clear()
    yield Hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def done(sweep: Callable[..., Sweep], capsys: Any) -> list[str]:
    """A finished run, as the words that name it."""
    it = sweep()
    capsys.readouterr()
    run = it.ids[0]
    it.saves(run, 7)
    it.done(run)
    known = {"run_id": run, "steps": 7, "wall_s": 3.0, "device": "cpu", "code": "abc"}
    path = it.folder(run) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | known))
    return [run, f"runtime.root={it.root}"]


def test_what_is_pushed_is_what_export_makes(
    done: list[str], hub: type[Hub], tmp_path: Path, capsys: Any
) -> None:
    run, root = done
    assert main(["export", run, f"{tmp_path}/out", root, "--license", "cc-by-4.0"]) == 0
    assert main(["publish", run, "me/model", root, "--license", "cc-by-4.0"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[-1].endswith("/me/model/commit/1")
    files = {
        p.relative_to(tmp_path / "out").as_posix(): p for p in (tmp_path / "out").rglob("*") if p.is_file()
    }
    assert set(files) == set(hub.pushed) - {".gitattributes"}
    assert all(hub.pushed[name] == path.read_bytes() for name, path in files.items())
    card = hub.pushed["README.md"].decode()
    assert yaml.safe_load(card.split("---\n")[1])["license"] == "cc-by-4.0"
    assert all(line.endswith("Bearer hf_secret") for line in hub.asked)
    assert "hf_secret" not in said.out + said.err + "".join(map(str, hub.pushed.values()))


def test_a_dry_run_lists_and_asks_nobody(done: list[str], hub: type[Hub], capsys: Any) -> None:
    run, root = done
    assert main(["publish", run, "me/model", root, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "README.md" in out and "would be pushed to me/model" in out and not hub.asked


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model"], "expected OWNER/NAME"),
        (["me/model", "--license", "my own"], "--license my own"),
    ],
)
def test_a_mistake_is_one_line(
    done: list[str], hub: type[Hub], capsys: Any, words: list[str], said: str
) -> None:
    run, root = done
    assert main(["publish", run, *words, root]) == 2
    told = capsys.readouterr().err
    assert said in told and len(told.splitlines()) == 1 and not hub.asked


def test_a_hub_that_does_not_answer_is_one_line(done: list[str], monkeypatch: Any, capsys: Any) -> None:
    run, root = done
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    assert main(["publish", run, "me/model", root]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("me/model: cannot be pushed to http://127.0.0.1:9")
