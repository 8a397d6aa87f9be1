"""The few answers of a W&B server that its client needs to upload a run; keeps what it is sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import quote, unquote

KEY = "a" * 40


class Runs(ThreadingHTTPServer):
    """`runs`: name -> {history: rows, config, summary, group, name, states}; `files`: name -> content;
    `artifacts`: name -> {type, files, committed}; `places`: (entity, project) of each run that was
    opened; `bodies`: all that came."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.runs: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.places: list[tuple[str | None, str]] = []
        self.bodies: list[bytes] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def server() -> Iterator[Runs]:
    """A server on loopback, within the block."""
    runs = Runs()
    thread = threading.Thread(target=runs.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield runs
    finally:
        runs.shutdown()
        runs.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Runs

    def log_message(self, *arguments: Any) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):  # a client that has gone
            super().handle()

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        content, (kind, *names) = self._body(), map(unquote, self.path.split("/")[1:])
        if kind == "artifact":
            self.server.artifacts[names[0]]["files"][names[1]] = content
        elif kind == "file":
            self.server.files["/".join(names)] = content
        self._reply({})

    def do_POST(self) -> None:
        body = json.loads(self._body())
        sent = self.headers.get("Authorization", "").removeprefix("Basic ")
        if base64.b64decode(sent or "").decode() != f"api:{KEY}":
            return self._reply({"errors": [{"message": "wrong key"}]}, 401)
        with self.server.lock:
            if self.path.endswith("file_stream"):
                return self._reply(self._stream(self.path.split("/")[-2], body))
            variables = body.get("variables") or {}
            answer = _Answer.ANSWERS.get(body["query"].split("(")[0].split()[1])
        self._reply({"data": answer(self, variables) if answer else {}})

    def _RunResumeStatus(self, variables: dict[str, Any]) -> Any:
        run = self.server.runs.get(variables["name"])
        if run is None:
            return {"model": {"id": "p", "name": "vocl", "entity": {"id": "e", "name": "me"}, "bucket": None}}
        tail = json.dumps([json.dumps(row) for row in run["history"][-1:]])
        bucket = {
            "id": "b",
            "name": variables["name"],
            "summaryMetrics": json.dumps(run["summary"]),
            "displayName": run["name"],
            "logLineCount": 0,
            "historyLineCount": len(run["history"]),
            "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "config": json.dumps(run["config"]),
            "tags": [],
            "notes": None,
            "wandbConfig": json.dumps({"t": 1}),
        }
        return {"model": {"id": "p", "name": "vocl", "entity": {"id": "e", "name": "me"}, "bucket": bucket}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> Any:
        entity, project = variables.get("entity"), variables["project"]
        self.server.places.append((entity, project))
        new = {"history": [], "config": {}, "summary": {}, "group": None, "name": None, "states": []}
        inserted = variables["name"] not in self.server.runs
        run = self.server.runs.setdefault(variables["name"], new)
        run["config"] |= json.loads(variables.get("config") or "{}")
        run["summary"] |= json.loads(variables.get("summaryMetrics") or "{}")
        run["group"] = variables.get("groupName") or run["group"]
        run["name"] = variables.get("displayName") or run["name"]
        run["states"].append(variables.get("state"))
        bucket = {
            "id": "b",
            "name": variables["name"],
            "displayName": run["name"],
            "description": None,
            "config": json.dumps(run["config"]),
            "sweepName": None,
            "project": {"id": "p", "name": project, "entity": {"id": "e", "name": entity or "me"}},
            "historyLineCount": len(run["history"]),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> Any:
        files = [
            {"name": name, "uploadUrl": f"{self.server.url}/file/{quote(name)}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}

    def _Viewer(self, variables: dict[str, Any]) -> Any:
        return {"viewer": {"id": "u", "entity": "me", "username": "me", "teams": {"edges": []}}}

    def _ArtifactType(self, variables: dict[str, Any]) -> Any:
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, variables: dict[str, Any]) -> Any:
        said = variables["input"]
        name = said["artifactCollectionName"]
        self.server.artifacts[name] = {"type": said["artifactTypeName"], "files": {}, "committed": False}
        artifact = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> Any:
        place = self._upload(variables["artifactID"], "manifest")
        return {
            "createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": place}}
        }

    def _UpdateArtifactManifest(self, variables: dict[str, Any]) -> Any:
        place = self._upload(variables["artifactManifestID"], "manifest")
        manifest = {"id": variables["artifactManifestID"], "file": place}
        return {"updateArtifactManifest": {"artifactManifest": manifest}}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> Any:
        edges = []
        for file in variables["input"]["artifactFiles"]:
            node = {"id": "f", "name": file["name"], "displayName": file["name"], "storagePath": "s"}
            node |= {"artifact": {"id": file["artifactID"]}, "uploadMultipartUrls": None}
            edges.append({"node": node | self._upload(file["artifactID"], file["name"])})
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> Any:
        self.server.artifacts[variables["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}

    def _upload(self, artifact: str, name: str) -> dict[str, Any]:
        place = f"{self.server.url}/artifact/{quote(artifact)}/{quote(name, safe='')}"
        return {"uploadUrl": place, "uploadHeaders": []}

    def _stream(self, name: str, body: dict[str, Any]) -> Any:
        run = self.server.runs[name]
        for file, part in (body.get("files") or {}).items():
            rows = [json.loads(line) for line in part["content"]]
            if file == "wandb-history.jsonl":
                run["history"][part["offset"] : part["offset"] + len(rows)] = rows
            if file == "wandb-summary.json":
                run["summary"] = rows[-1]
        if "exitcode" in body or "preempting" in body:
            run["states"].append({key: body[key] for key in ("exitcode", "preempting") if key in body})
        return {"exitcode": None, "limits": {}}

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.bodies.append(body)
        return body

    def _reply(self, content: Any, code: int = 200) -> None:
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    ANSWERS: ClassVar[dict[str, Any]] = {
        name.removeprefix("_"): answer
        for name, answer in list(locals().items())
        if name[:1] == "_" and name[1:2].isupper()
    }
