"""A stand-in of the Hugging Face hub: the routes that huggingface_hub calls to make, commit to, list and read repos."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_standin"
LARGE = (".png", ".parquet", ".webp")
"""What the hub keeps as large files."""


class Hub:
    """Repositories by "datasets/OWNER/NAME" or "models/OWNER/NAME": files of each commit."""

    def __init__(self) -> None:
        self.repos: dict[str, list[dict[str, bytes]]] = {}
        self.requests: list[dict[str, Any]] = []
        self.large: dict[str, bytes] = {}
        self.pulls: dict[str, list[dict[str, bytes]]] = {}
        self.sent = 0
        """Large files that were sent."""
        self.url = ""

    def files(self, repo: str) -> dict[str, bytes]:
        return self.repos[repo][-1]


def commit_id(files: dict[str, bytes]) -> str:
    state = hashlib.sha1()
    for name in sorted(files):
        state.update(name.encode() + b"\0" + files[name])
    return state.hexdigest()


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            del format, args

        def answer(self, code: int, body: object = None, data: bytes | None = None, **headers: str) -> None:
            content = json.dumps(body).encode() if data is None else data
            self.send_response(code)
            kind = "application/json" if data is None else "application/octet-stream"
            for name, value in {"Content-Type": kind, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def refused(self) -> bool:
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                return False
            self.body()
            self.answer(
                401, {"error": "Invalid username or password."}, X_Error_Message="Invalid username or password."
            )
            return True

        def missing(self) -> None:
            self.answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")

        def do_PUT(self) -> None:
            data = self.body()
            oid = self.path.rpartition("/")[2]
            assert hashlib.sha256(data).hexdigest() == oid
            hub.large[oid] = data
            hub.sent += 1
            self.answer(200, {})

        def do_POST(self) -> None:
            path = urlsplit(self.path)
            if path.path != "/api/validate-yaml" and self.refused():
                return
            data = self.body()
            if path.path == "/api/validate-yaml":
                head = yaml.safe_load(json.loads(data)["content"].split("---")[1])
                known = {"pretty_name", "task_categories", "tags", "configs"}
                errors = [{"message": f'"{name}" is not allowed'} for name in set(head) - known]
                self.answer(400 if errors else 200, {"errors": errors, "warnings": []})
            elif path.path == "/api/repos/create":
                asked = json.loads(data)
                name = f"{asked.get('type', 'model')}s/{asked['organization']}/{asked['name']}"
                hub.requests.append(asked)
                if name in hub.repos:
                    self.answer(409, {"error": "You already created this repo", "url": f"{hub.url}/{name}"})
                else:
                    hub.repos[name] = [{".gitattributes": b"*.png filter=lfs\n"}]
                    self.answer(200, {"url": f"{hub.url}/{name}", "id": name.partition("/")[2]})
            elif found := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path.path):
                objects = []
                for one in json.loads(data)["objects"]:
                    there = one["oid"] in hub.large
                    actions = {"upload": {"href": f"{hub.url}/lfs/{one['oid']}", "header": {}}}
                    objects.append({**one, **({} if there else {"actions": actions})})
                self.answer(200, {"transfer": "basic", "objects": objects})
            elif found := re.fullmatch(r"/api/(\w+)/([^/]+/[^/]+)/(preupload|commit)/main", path.path):
                repo = f"{found[1]}/{found[2]}"
                if repo not in hub.repos:
                    self.missing()
                elif found[3] == "preupload":
                    files = [
                        {
                            "path": one["path"],
                            "uploadMode": "lfs" if one["path"].endswith(LARGE) else "regular",
                            "shouldIgnore": False,
                        }
                        for one in json.loads(data)["files"]
                    ]
                    self.answer(200, {"files": files})
                else:
                    self.commit(repo, data, "create_pr=1" in path.query)
            else:
                self.answer(404, {"error": self.path})

        def commit(self, repo: str, data: bytes, pull: bool) -> None:
            files = dict(hub.repos[repo][-1])
            for line in data.splitlines():
                item = json.loads(line)
                value = item["value"]
                if item["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif item["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
            place = hub.pulls.setdefault(repo, []) if pull else hub.repos[repo]
            place.append(files)
            oid = commit_id(files)
            told = {"commitUrl": f"{hub.url}/{repo}/commit/{oid}", "commitOid": oid, "success": True}
            self.answer(200, {**told, **({"pullRequestUrl": f"{hub.url}/{repo}/discussions/1"} if pull else {})})

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if found := re.fullmatch(r"/api/(\w+)/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
                repo = f"{found[1]}/{found[2]}"
                if repo not in hub.repos:
                    self.missing()
                    return
                names = [{"rfilename": name} for name in hub.files(repo)]
                self.answer(200, {"id": found[2], "sha": commit_id(hub.files(repo)), "siblings": names, "tags": []})
            elif found := re.fullmatch(r"/api/(\w+)/([^/]+/[^/]+)/tree/([^/]+)", path):
                files = hub.files(f"{found[1]}/{found[2]}")
                rows: list[dict[str, Any]] = []
                for name, content in files.items():
                    row = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    if name.endswith(LARGE):
                        oid = hashlib.sha256(content).hexdigest()
                        row["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
                    rows.append(row)
                self.answer(200, rows)
            elif found := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                files = hub.files(f"{found[1] or 'models'}/{found[2]}")
                content = files[found[4]]
                etag = hashlib.sha256(content).hexdigest()
                self.answer(200, data=content, ETag=f'"{etag}"', X_Repo_Commit=commit_id(files))
            else:
                self.answer(404, {"error": self.path})

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub of its own on a free port of this machine."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
