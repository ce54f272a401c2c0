"""What the server takes, refuses and gives back, and that its jobs end as the command line's do."""

from __future__ import annotations

import io
import itertools
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow
from starlette.testclient import TestClient
from tiny import make

from refbench import serving
from refbench.app.jobs import MOST_WAITING, Asked, Jobs
from refbench.app.server import STATIC, App
from refbench.app.store import MOST_BYTES, Store, Upload, safe_name
from refbench.cli.main import main
from refbench.errors import RefbenchError
from refbench.images import decode_image, encode_png

from .conftest import FAULTY

SAMPLE, _ = make("logo-refine", 0)
PAINTED = int(SAMPLE.mask.sum())


@pytest.fixture
def client(app: App) -> Iterator[TestClient]:
    page = serving.application(app.routes(), STATIC, serving.Door("127.0.0.1", 80, None))
    with TestClient(page, base_url="http://127.0.0.1", raise_server_exceptions=False) as found:
        yield found


class User:
    """Someone with the page open."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def send(self, data: bytes, name: str = "draft.png") -> dict[str, Any]:
        answer = self.client.post("/api/pictures", params={"name": name}, content=data)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def mask(self, draft: str, mask: np.ndarray, painted: int | None = None) -> Any:
        count = int(mask.sum()) if painted is None else painted
        where = {"draft": draft, "painted": count}
        return self.client.post("/api/masks", params=where, content=encode_png(mask))

    def ask(self, name: str = "fine.png", draft: bytes | None = None, **asked: Any) -> Any:
        """The answer to a job on the tiny sample."""
        ids = {
            "draft": self.send(draft or encode_png(SAMPLE.draft), name)["id"],
            "reference": self.send(encode_png(SAMPLE.reference), "reference.png")["id"],
        }
        ids["mask"] = self.mask(ids["draft"], SAMPLE.mask).json()["id"]
        return self.client.post("/api/jobs", content=json.dumps({"model": FAULTY, **ids, **asked}))

    def state(self, job: str) -> dict[str, Any]:
        return self.client.get(f"/api/jobs/{job}").json()

    def until(self, job: str, *states: str, seconds: float = 60) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while (told := self.state(job))["state"] not in states:
            assert time.monotonic() < end, told
            time.sleep(0.02)
        return told

    def done(self, **asked: Any) -> dict[str, Any]:
        return self.until(self.ask(**asked).json()["id"], "done", "failed", "cancelled", seconds=120)

    def file(self, job: str, what: str) -> bytes:
        answer = self.client.get(f"/api/jobs/{job}/{what}")
        assert answer.status_code == 200, answer.text
        return answer.content


@pytest.fixture
def user(client: TestClient) -> User:
    return User(client)


def turned_jpeg(picture: np.ndarray) -> bytes:
    """A JPEG that EXIF turns by 90 degrees."""
    exif = Pillow.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Pillow.fromarray(picture).save(buffer, "JPEG", quality=95, exif=exif)
    return buffer.getvalue()


# ---- the same as the command line


@pytest.mark.parametrize(
    ("model", "more"),
    [
        ("warp-blend", {"prompt": "Restore the  stripes;\n`rm`", "reference_box": [3, 4, 80, 70]}),
        ("omnirefiner", {"seed": 7}),
    ],
)
def test_the_command_gives_the_same_bytes(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, more: dict[str, Any]
) -> None:
    told = user.done(name="it's mine.png", model=model, **more)
    assert told["state"] == "done", told
    with zipfile.ZipFile(io.BytesIO(user.file(told["id"], "all"))) as packed:
        packed.extractall(tmp_path)
    result = tmp_path / told["out"]
    before = result.read_bytes()
    assert before == user.file(told["id"], "result")
    result.unlink()
    assert (tmp_path / "command.txt").read_text().strip() == told["command"]
    program, *arguments = shlex.split(told["command"])
    assert program == "refbench"
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 0
    assert result.read_bytes() == before


def test_turned_draft_with_alpha_keeps_its_size(user: User) -> None:
    wide = np.dstack([SAMPLE.draft, np.full(SAMPLE.draft.shape[:2], 200, np.uint8)])
    told = user.done(draft=encode_png(wide))
    assert Pillow.open(io.BytesIO(user.file(told["id"], "result"))).mode == "RGBA"
    sent = user.send(turned_jpeg(SAMPLE.draft), "photo.jpg")
    assert (sent["height"], sent["width"]) == SAMPLE.draft.shape[1::-1]
    assert user.mask(sent["id"], SAMPLE.mask).status_code == 400
    assert user.mask(sent["id"], np.ascontiguousarray(SAMPLE.mask.T)).status_code == 200


def test_files_of_one_name_do_not_meet(user: User) -> None:
    same = user.send(encode_png(SAMPLE.reference), "photo.png")["id"]
    told = user.until(user.ask(name="photo.png", reference=same).json()["id"], "done")
    names = zipfile.ZipFile(io.BytesIO(user.file(told["id"], "all"))).namelist()
    assert names == ["photo.png", "reference-photo.png", "photo-mask.png", "photo-refined.png", "command.txt"]


# ---- masks and uploads


@pytest.mark.parametrize(
    ("mask", "painted", "words"),
    [
        (~SAMPLE.mask, PAINTED, "black and white are exchanged"),
        (SAMPLE.mask, PAINTED + 1, f"{PAINTED + 1:,} white pixels"),
        (SAMPLE.mask[:-1], None, "Expected a mask of 112 x 96 px"),
        (np.zeros_like(SAMPLE.mask), None, "it is all black"),
        (np.ones_like(SAMPLE.mask), None, "it is all white"),
        (SAMPLE.draft, PAINTED, "binary mask"),
        (SAMPLE.mask, int("9" * 4000), "painted pixels"),
    ],
)
def test_misfit_mask_is_refused(user: User, mask: np.ndarray, painted: int | None, words: str) -> None:
    draft = user.send(encode_png(SAMPLE.draft))["id"]
    answer = user.mask(draft, mask, painted)
    assert answer.status_code == 400
    assert words in answer.json()["error"]
    assert os.sep not in answer.json()["error"]


def test_a_picture_is_no_mask(user: User) -> None:
    picture = user.send(encode_png(SAMPLE.draft))["id"]
    asked = {"model": FAULTY, "draft": picture, "reference": picture, "mask": picture}
    answer = user.client.post("/api/jobs", content=json.dumps(asked))
    assert answer.status_code == 400
    assert "black and white" in answer.text


def test_mask_of_another_draft_is_refused(user: User) -> None:
    large = user.send(encode_png(np.tile(SAMPLE.draft, (2, 2, 1))))["id"]
    other = user.mask(large, np.tile(SAMPLE.mask, (2, 2))).json()["id"]
    answer = user.ask(mask=other)
    assert answer.status_code == 400
    assert "112 x 96 px" in answer.json()["error"]


def huge_png() -> bytes:
    """The header of a picture of 400 megapixels, with next to no data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20000, 20000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "status", "words"),
    [
        (huge_png(), 400, "at most 100 megapixels"),
        (b"no picture", 400, "notes.txt"),
        (b"", 400, "empty"),
        (bytes(MOST_BYTES + 1), 413, f"at most {MOST_BYTES} bytes"),
    ],
    ids=["pixels", "text", "empty", "bytes"],
)
def test_what_is_no_picture_is_refused(user: User, app: App, data: bytes, status: int, words: str) -> None:
    before = sorted(app.store.root.iterdir())
    answer = user.client.post("/api/pictures", params={"name": "notes.txt"}, content=data)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert sorted(app.store.root.iterdir()) == before


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\pictures\\a b.jpg", "a b.jpg"),
        ("a\n$(rm).png", "_(rm).png"),
        ("..", "picture"),
        ("", "picture"),
        ("写真.png", "写真.png"),
    ],
)
def test_names_are_made_harmless(name: str, kept: str) -> None:
    assert safe_name(name, "picture").endswith(kept)
    assert not set("/\\\n$") & set(safe_name(name, "picture"))


def test_picture_shown_as_server_sees_it(user: User) -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(SAMPLE.draft).save(buffer, "TIFF")
    sent = user.send(buffer.getvalue(), "scan.tif")
    shown = user.client.get(f"/api/pictures/{sent['id']}")
    assert np.array_equal(decode_image(shown.content), SAMPLE.draft)
    assert user.client.head(f"/api/pictures/{sent['id']}").status_code == 200


# ---- what is asked


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"model": "warp-blnd"}, "models that are ready here"),
        ({"reference_box": [0, 0, 999, 5]}, "inside the reference"),
        ({"reference_box": [1, 2, 3]}, "[x, y, width, height]"),
        ({"reference_box": [1, 2, 3, True]}, "[x, y, width, height]"),
        ({"seed": -1}, "a seed of 0 or more"),
        ({"seed": "x"}, "seed"),
        ({"prompt": "x" * 2001}, "at most 2000 characters"),
        ({"prompt": "a \ud800"}, "UTF-8"),
    ],
)
def test_impossible_job_is_refused(user: User, asked: dict[str, Any], words: str) -> None:
    answer = user.ask(**asked)
    assert answer.status_code == 400
    assert words in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"draft": ', b"[" * 50000])
def test_request_must_be_an_object(user: User, body: bytes) -> None:
    answer = user.client.post("/api/jobs", content=body)
    assert answer.status_code == 400
    assert "JSON object" in answer.json()["error"]


def test_nothing_is_found_without_its_name(user: User, app: App) -> None:
    told = user.done()
    paths = ["/api/pictures/x", "/api/jobs/x", "/api/jobs/x/result", f"/api/jobs/{told['id']}/draft"]
    for path in [*paths, "/api/pictures/", "/api/jobs"]:
        assert user.client.get(path).status_code in (404, 405)
    assert user.client.post("/api/jobs/x/cancel").status_code == 404
    assert user.ask(mask="x").status_code == 404
    ids = [path.name for path in app.store.root.iterdir()]
    assert all(len(name) >= 22 for name in ids)
    assert len(set(ids)) == len(ids)


# ---- jobs that go wrong


def test_two_users_get_their_own_results(user: User) -> None:
    drafts = [SAMPLE.draft, np.ascontiguousarray(SAMPLE.draft[::-1])]
    jobs = [user.ask(name=f"fine-{n}.png", draft=encode_png(one)).json()["id"] for n, one in enumerate(drafts)]
    for job, draft in zip(jobs, drafts, strict=True):
        user.until(job, "done")
        assert np.array_equal(decode_image(user.file(job, "result")), 255 - draft)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dies-1.png", "exited with code 3"),
        ("killed-1.png", "SIGKILL"),
        ("size-1.png", "px"),
        ("raises-1.png", "missing"),
    ],
)
def test_model_that_fails_costs_its_job_only(user: User, name: str, words: str) -> None:
    told = user.done(name=name)
    assert told["state"] == "failed"
    assert words in told["error"]
    assert "Traceback" not in told["error"]
    assert user.client.get(f"/api/jobs/{told['id']}/result").status_code == 404
    assert user.done()["state"] == "done"


def test_cancel_ends_the_process_that_works(user: User, app: App) -> None:
    job = user.ask(name="late-1.png").json()["id"]
    user.until(job, "refining")
    child = app.jobs._child
    assert child is not None
    assert child.alive
    start = time.monotonic()
    user.client.post(f"/api/jobs/{job}/cancel")
    assert user.until(job, "cancelled", seconds=10)["error"] is None
    assert time.monotonic() - start < 10
    assert not child.alive
    assert user.client.get(f"/api/jobs/{job}/result").status_code == 404
    assert user.done()["state"] == "done"
    assert user.client.post(f"/api/jobs/{job}/cancel").json()["state"] == "cancelled"


def test_job_that_waits_is_cancelled_unseen(user: User) -> None:
    first = user.ask(name="late-1.png").json()["id"]
    second = user.ask().json()
    assert second["state"] == "waiting"
    assert second["ahead"] == 1
    assert user.client.post(f"/api/jobs/{second['id']}/cancel").json()["state"] == "cancelled"
    user.client.post(f"/api/jobs/{first}/cancel")
    user.until(first, "cancelled")


def uploads(store: Store) -> list[Upload]:
    draft = store.put(encode_png(SAMPLE.draft), "late-1.png")
    reference = store.put(encode_png(SAMPLE.reference), "reference.png")
    return [draft, reference, store.put_mask(encode_png(SAMPLE.mask), draft, PAINTED)]


SLOW = """
import time
from refbench.schema import AdapterCard
class Slow:
    card = AdapterCard(name="slow", summary="Takes its time to start.", licence="Apache-2.0")
    def __init__(self, *, device="cpu"):
        time.sleep(60)
    def refine(self, inputs):
        return inputs.draft
"""


def test_cancel_ends_a_model_that_loads(tmp_path: Path) -> None:
    file, root = tmp_path / "slow.py", tmp_path / "root"
    file.write_text(SLOW)
    root.mkdir()
    store = Store(root)
    jobs = Jobs(store, {"slow": str(file)}, device="cpu")
    entry = jobs.add(*uploads(store), Asked("slow"))
    end = time.monotonic() + 30
    while jobs._child is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert entry.state == "loading"
    start = time.monotonic()
    jobs.cancel(entry.id)
    while not entry.ended:
        assert time.monotonic() < start + 10
        time.sleep(0.02)
    assert entry.state == "cancelled"
    jobs.close()


def test_line_has_end_and_closing_ends_all(tmp_path: Path) -> None:
    store = Store(tmp_path)
    jobs = Jobs(store, {"faulty": FAULTY}, device="cpu")
    sent = uploads(store)
    first = jobs.add(*sent, Asked("faulty"))
    while first.state == "waiting":
        time.sleep(0.01)
    for _ in range(MOST_WAITING):
        jobs.add(*sent, Asked("faulty"))
    with pytest.raises(RefbenchError, match="the line is full"):
        jobs.add(*sent, Asked("faulty"))
    start = time.monotonic()
    jobs.close()
    assert time.monotonic() - start < 15
    assert not jobs._thread.is_alive()


def test_least_recently_used_makes_room(tmp_path: Path) -> None:
    data = encode_png(SAMPLE.draft)
    store = Store(tmp_path, kept_bytes=3 * len(data))
    sent = [store.put(data, f"{n}.png") for n in range(3)]
    store.upload(sent[0].id)  # used again
    store.put(data, "more.png")
    assert [store.holds(one.id) for one in sent] == [True, False, True]
    assert not sent[1].path.exists()
    with pytest.raises(RefbenchError, match="choose the file again"):
        store.upload(sent[1].id)


def test_job_keeps_its_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    jobs = Jobs(store, {"faulty": FAULTY}, device="cpu")
    gate = threading.Event()
    jobs._opened, opened = lambda spec: (gate.wait(30), opened(spec))[1], jobs._opened  # type: ignore[method-assign]
    draft, *others = uploads(store)
    entry = jobs.add(store.put(draft.path.read_bytes(), "fine.png"), *others, Asked("faulty"))
    for path in itertools.chain.from_iterable(one.path.parent.iterdir() for one in (draft, *others)):
        path.unlink()
    gate.set()
    while not entry.ended:
        time.sleep(0.02)
    assert entry.state == "done", entry.error
    jobs.close()


# ---- the page and the command


def test_examples_show_what_a_model_sees(user: User) -> None:
    rows = user.client.get("/api/about").json()["examples"]
    assert len(rows) == 6
    name = "logo-refine-000"
    facts = user.client.get(f"/api/examples/{name}").json()
    assert facts["prompt"] == SAMPLE.prompt
    for what, array in (("draft", SAMPLE.draft), ("reference", SAMPLE.reference)):
        assert np.array_equal(decode_image(user.client.get(f"/api/examples/{name}/{what}").content), array)
    assert decode_image(user.client.get(f"/api/examples/{name}/thumb").content).shape == (120, 120, 3)
    assert user.client.get(f"/api/examples/{name}/target").status_code == 404
    assert user.client.get("/api/examples/nothing/draft").status_code == 404


def test_models_are_those_that_are_ready(user: User, app: App) -> None:
    models = {row["name"]: row for row in user.client.get("/api/about").json()["models"]}
    assert {FAULTY, "warp-blend", "omnirefiner"} <= set(models)
    assert "flux-kontext" not in models
    assert set(models) == set(app.jobs.models)


def test_the_page_asks_for_nothing_else(user: User) -> None:
    page = user.client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    texts = [page.text, *(path.read_text() for path in STATIC.iterdir())]
    assert not [text for text in texts if "http://" in text or "https://" in text]
    for name in ("main.js", "app.css"):
        assert user.client.get(f"/static/{name}").status_code == 200


def test_elsewhere_a_token_is_needed(app: App) -> None:
    page = serving.application(app.routes(), STATIC, serving.Door("0.0.0.0", 80, "secret"))
    with TestClient(page, base_url="http://machine") as client:
        for path in ("/", "/api/about", "/static/main.js"):
            assert client.get(path).status_code == 403
        assert client.post("/api/pictures", content=b"x").status_code == 403
        assert client.get("/?token=secret").status_code == 200
        assert client.get("/api/about").status_code == 200


def test_command_serves_until_it_is_interrupted(suite: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "refbench", "app", "--suite", str(suite), "--device", "cpu"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    address = child.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:")
    assert list(tmp_path.glob("refbench-app-*"))
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode in (0, 130)
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "nowhere.py"], "nowhere.py"),
        (["--suite", "nowhere"], "nowhere"),
        (["--host", "256.1.1.1"], "--host"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "nan"], "--timeout"),
    ],
)
def test_a_wrong_option_is_one_sentence(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert main(["app", *arguments]) == 2
    assert words in capsys.readouterr().err
