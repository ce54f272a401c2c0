"""Who may ask a served page, and what its answers allow a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from refbench import serving
from refbench.errors import RefbenchError

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

TOKEN = "a-token"


def client(door: serving.Door, tmp_path: Path, base: str = "http://localhost", **options: Any) -> Any:
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    async def say(request: Request) -> JSONResponse:
        body = await serving.body_of(request, 10)
        return JSONResponse({"size": len(body)})

    def wrong(request: Request) -> JSONResponse:
        raise RefbenchError("Expected one thing, but another came.")

    def broken(request: Request) -> JSONResponse:
        raise ZeroDivisionError

    (tmp_path / "page.css").write_text("body {}")
    routes = [Route("/", say, methods=["GET", "POST"]), Route("/wrong", wrong), Route("/broken", broken)]
    app = serving.application(routes, tmp_path, door)
    return TestClient(app, base_url=base, raise_server_exceptions=False, **options)


def test_every_answer_forbids_what_is_outside(tmp_path: Path) -> None:
    page = client(serving.Door("127.0.0.1", 1, None), tmp_path)
    for path, status in (("/", 200), ("/static/page.css", 200), ("/none", 404), ("/broken", 500)):
        answer = page.get(path)
        assert answer.status_code == status
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert page.get("/static/../../test_serving.py").status_code == 404


def test_errors_are_sentences(tmp_path: Path) -> None:
    page = client(serving.Door("127.0.0.1", 1, None), tmp_path)
    assert (page.get("/wrong").status_code, page.get("/wrong").json()) == (
        400,
        {"error": "Expected one thing, but another came."},
    )
    assert "ZeroDivisionError" in page.get("/broken").json()["error"]
    assert page.post("/", content=b"x" * 10).json() == {"size": 10}
    long = page.post("/", content=b"x" * 11)
    assert (long.status_code, long.json()) == (413, {"error": "Expected at most 10 bytes, but more came."})


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example", ""])
def test_a_name_from_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    page = client(serving.Door("127.0.0.1", 1, None), tmp_path)
    assert page.get("/", headers={"host": name}).status_code == 403
    assert page.get("/", headers={"host": "[::1]:80"}).status_code == 200


def test_requests_of_other_sites_are_refused(tmp_path: Path) -> None:
    page = client(serving.Door("127.0.0.1", 1, None), tmp_path)
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert page.post("/", headers=headers).status_code == 403
    assert page.post("/", headers={"origin": "http://localhost"}).status_code == 200


def test_token_stays_as_cookie(tmp_path: Path) -> None:
    door = serving.Door("0.0.0.0", 8000, TOKEN)
    page = client(door, tmp_path, "http://machine:8000", follow_redirects=False)
    assert page.get("/").status_code == 403
    assert page.get("/?token=wrong").status_code == 403
    assert page.get("/static/page.css").status_code == 403
    came = page.get(f"/?token={TOKEN}")
    assert (came.status_code, came.headers["location"]) == (303, "/")
    assert "HttpOnly" in came.headers["set-cookie"]
    assert page.get("/").status_code == 200
    page.cookies.clear()
    assert page.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert page.get("/", headers={"authorization": "Bearer "}).status_code == 403


def test_a_redirect_stays_on_this_machine(tmp_path: Path) -> None:
    door = serving.Door("0.0.0.0", 8000, TOKEN)
    page = client(door, tmp_path, "http://machine:8000", follow_redirects=False)
    came = page.get(f"http://machine:8000//evil.example/?token={TOKEN}")
    assert came.headers["location"] == "/evil.example/"


def test_only_loopback_needs_no_token() -> None:
    listener, door = serving.opened()
    with listener:
        assert door.token is None
        assert door.address == f"http://127.0.0.1:{door.port}/"
        with pytest.raises(RefbenchError, match=f"port {door.port}"):
            serving.opened(port=door.port)
    listener, door = serving.opened("0.0.0.0")
    with listener:
        assert door.token is not None
        assert len(door.token) >= 16
        assert door.address == f"http://{socket.gethostname()}:{door.port}/?token={door.token}"


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("203.0.113.7", 0)])
def test_place_that_cannot_be_bound_told(host: str, port: int) -> None:
    with pytest.raises(RefbenchError, match="Expected"):
        serving.opened(host, port)


def test_a_page_is_served_until_interrupted(tmp_path: Path) -> None:
    import signal

    code = (
        "import sys\nfrom pathlib import Path\nfrom starlette.responses import PlainTextResponse\n"
        "from starlette.routing import Route\nfrom refbench import serving\n"
        "serving.serve([Route('/', lambda request: PlainTextResponse('here'))], Path(sys.argv[1]),\n"
        "              announce=lambda address: print(address, flush=True))\nprint('ended')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.read() == b"here"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30)[0] == "ended\n"
    assert process.returncode == 0
