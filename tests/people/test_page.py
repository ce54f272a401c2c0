"""The arena's page: what its answers hold, and what a rater can do with it in a real browser."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report import browser

from refbench import serving
from refbench.errors import RefbenchError
from refbench.people.arena import Arena
from refbench.people.page import STATIC, routes

from .conftest import MODELS

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")

Seat = Callable[..., Arena]


def client(arena: Arena, raters: tuple[str, ...] = ()) -> Any:
    from starlette.testclient import TestClient

    app = serving.application(routes(arena, raters), STATIC, serving.Door("127.0.0.1", 1, None))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def test_nothing_names_model_or_sample(seated: Seat, folders: list[Path]) -> None:
    page = client(seated(target=True))
    told = page.get("/question?rater=ann")
    token = told.json()["token"]
    pictures = [page.get(f"/picture/{token}/{w}") for w in ("draft", "reference", "left", "right", "target")]
    answer = page.post("/answer", json={"question": token, "verdict": "tie", "seconds": 1})
    everything = [told, *pictures, answer, page.get("/"), page.get("/static/arena.js"), page.get("/facts")]
    secrets = [*MODELS, *(str(folder) for folder in folders), "-refine-", "-replace-"]
    for one in everything:
        assert one.status_code == 200
        text = str(one.headers) + one.content.decode("latin-1")
        assert [secret for secret in secrets if secret in text] == []
    assert "model" not in json.dumps(told.json())


def test_a_round_of_verdicts(seated: Seat) -> None:
    arena = seated(most=2)
    page = client(arena)
    first = page.get("/question?rater=ann").json()
    assert (first["given"], first["of"], first["undo"]) == (0, 2, False)
    assert page.get("/question?rater=ann").json() == first
    second = page.post("/answer", json={"question": first["token"], "verdict": "left", "seconds": 1.5}).json()
    assert (second["given"], second["undo"]) == (1, True)
    assert second["token"] != first["token"]
    assert page.post("/undo", json={"rater": "ann"}).json() == first
    for token in (first["token"], None):
        token = token or page.get("/question?rater=ann").json()["token"]
        last = page.post("/answer", json={"question": token, "verdict": "bad", "seconds": 2}).json()
    assert (last["token"], last["given"]) == (None, 2)
    assert [vote.verdict for vote in arena.file.read()] == ["bad", "bad"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/question", None),
        ("GET", "/question?rater=model:x", None),
        ("POST", "/answer", b"no json"),
        ("POST", "/answer", b"[]"),
        ("POST", "/answer", b'{"question": "x", "verdict": "left"}'),
        ("POST", "/answer", b'{"question": "x", "verdict": "left", "seconds": NaN}'),
        ("POST", "/answer", b'{"question": "x", "verdict": "left", "seconds": 1' + b"0" * 400 + b"}"),
        ("POST", "/answer", b"[" * 4000),
        ("POST", "/undo", b"[" * 4000),
        ("POST", "/undo", b"{}"),
    ],
)
def test_what_it_does_not_understand_told(seated: Seat, method: str, path: str, body: bytes | None) -> None:
    answer = client(seated()).request(method, path, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("Expected")


def test_only_the_raters_named_may_vote(seated: Seat) -> None:
    page = client(seated(), ("ann", "bob"))
    assert page.get("/facts").json() == {"raters": ["ann", "bob"]}
    assert page.get("/question?rater=eve").status_code == 400
    assert page.get("/question?rater=bob").status_code == 200
    with pytest.raises(RefbenchError, match="name"):
        routes(seated(), ["model:x"])


def test_no_other_file_is_served(seated: Seat) -> None:
    page = client(seated())
    assert page.get("/shared/view.js").status_code == 200
    for path in ("/shared/viewer.html.j2", "/shared/..%2f..%2fviewer.py", "/static/..%2fpage.py", "/static/"):
        assert page.get(path).status_code == 404


class Served:
    """An arena behind uvicorn in a thread."""

    def __init__(self, arena: Arena, raters: tuple[str, ...] = ()) -> None:
        self.arena = arena
        listener, self.door = serving.opened()
        config = uvicorn.Config(serving.application(routes(arena, raters), STATIC, self.door), log_config=None)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture
def served(seated: Seat) -> Iterator[Callable[..., Served]]:
    made: list[Served] = []

    def serve(*raters: str, **options: object) -> Served:
        made.append(Served(seated(**options), raters))
        return made[-1]

    yield serve
    for one in made:
        one.close()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.05)
    return found


READY = "return question !== null && since !== null && !busy"


@pytest.mark.browser
@pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
class TestBrowser:
    @pytest.fixture
    def opened(self) -> Iterator[Callable[..., Any]]:
        made: list[Any] = []

        def start(address: str, **options: Any) -> Any:
            driver = browser.start(**{"width": 1400, "height": 900, **options})
            made.append(driver)
            driver.get(address)
            return driver

        yield start
        for driver in made:
            driver.quit()

    def test_by_keyboard_from_name_to_thanks(self, served: Any, opened: Any) -> None:
        from selenium.webdriver.common.keys import Keys

        page = served(most=4)
        driver = opened(page.door.address)
        until(lambda: driver.switch_to.active_element.get_attribute("id") == "name")
        driver.switch_to.active_element.send_keys("ann", Keys.ENTER)
        keys = (
            (Keys.ARROW_LEFT, "left"),
            (Keys.ARROW_UP, "tie"),
            (Keys.ARROW_DOWN, "bad"),
            (Keys.ARROW_RIGHT, "right"),
        )
        for number, (key, _) in enumerate(keys):
            until(lambda: driver.execute_script(READY))
            driver.switch_to.active_element.send_keys(key)
            until(lambda count=number: page.arena.given("ann") == count + 1)
        until(lambda: driver.find_element("id", "end").is_displayed())
        assert "4 verdicts of ann" in driver.find_element("id", "ended").text
        votes = page.arena.file.read()
        assert [vote.verdict for vote in votes] == [verdict for _, verdict in keys]
        assert all(0 < vote.seconds < 60 for vote in votes)
        assert browser.console_errors(driver) == []
        assert [one for one in browser.requests(driver) if not one.startswith((page.door.address, "data:"))] == []

    def test_neither_page_nor_addresses_name_model(self, served: Any, opened: Any) -> None:
        page = served("ann")
        driver = opened(page.door.address)
        until(lambda: driver.execute_script(READY))
        text = driver.page_source + " ".join(browser.requests(driver))
        assert [name for name in (*MODELS, "-refine-", "-replace-") if name in text] == []

    def test_all_pictures_zoom_and_flicker_in_step(self, served: Any, opened: Any) -> None:
        page = served("ann")
        driver = opened(page.door.address)
        until(lambda: driver.execute_script(READY))
        driver.find_element("id", "fit").click()
        for _ in range(3):
            driver.find_element("id", "zoom-in").click()
        matrices = driver.execute_script(
            "return [...document.querySelectorAll('[data-side] .picture.on .moved')]"
            ".map((node) => getComputedStyle(node).transform.slice(7, -1).split(',').map(Number))"
        )
        assert len(matrices) == 4
        assert np.allclose(matrices, matrices[0], atol=0.5)  # frames differ by fractions of a px
        assert matrices[0][0] == 3.375
        driver.find_element("id", "flicker").click()
        shown = "return document.querySelector('[data-side=left] .picture.on').dataset.what"
        first = driver.execute_script(shown)
        until(lambda: driver.execute_script(shown) != first)
        after = driver.execute_script(
            "return getComputedStyle(document.querySelector('[data-side=left] .picture.on .moved')).transform"
        )
        assert after.startswith("matrix(3.375,")
        driver.find_element("id", "show-draft").click()
        assert driver.execute_script(shown) == "draft"

    def test_region_seen_whole_in_every_frame(self, served: Any, opened: Any) -> None:
        driver = opened(served("ann", target=True).door.address)
        until(lambda: driver.execute_script(READY))
        outside = driver.execute_script(
            "return [...document.querySelectorAll('.frame')].filter((frame) => {"
            " const seen = frame.querySelector('.picture.on .outline .over').getBoundingClientRect();"
            " const all = frame.getBoundingClientRect();"
            " return seen.left < all.left - 1 || seen.right > all.right + 1 || seen.top < all.top - 1"
            "  || seen.bottom > all.bottom + 1; }).length"
        )
        assert outside == 0

    @pytest.mark.parametrize("target", [False, True])
    def test_a_phone_shows_all_without_scrolling(self, served: Any, opened: Any, target: bool) -> None:
        page = served("ann", target=target)
        driver = opened(page.door.address, width=390, height=844, phone=True, dark=True)
        until(lambda: driver.execute_script(READY))
        assert driver.execute_script("return document.documentElement.scrollWidth <= innerWidth")
        assert driver.execute_script("return document.documentElement.scrollHeight <= innerHeight + 1")
        frames = driver.find_elements("css selector", ".frame")
        assert len(frames) == 4 + target
        assert all(frame.size["width"] >= 100 and frame.size["height"] >= 100 for frame in frames)
        buttons = driver.find_elements("css selector", "#verdicts button")
        assert all(button.size["height"] >= 44 for button in buttons)
        assert driver.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(20, 20, 19)"
        buttons[0].click()
        until(lambda: page.arena.given("ann") == 1)

    def test_undo_and_reload_keep_question(self, served: Any, opened: Any) -> None:
        page = served("ann")
        driver = opened(page.door.address)
        until(lambda: driver.execute_script(READY))
        token = driver.execute_script("return question.token")
        driver.refresh()
        until(lambda: driver.execute_script(READY))
        assert driver.execute_script("return question.token") == token
        driver.find_element("css selector", "[data-verdict=left]").click()
        until(lambda: driver.execute_script(f"{READY} && question.token !== '{token}'"))
        driver.find_element("id", "undo").click()
        until(lambda: driver.execute_script(f"{READY} && question.token === '{token}'"))
        assert page.arena.given("ann") == 0

    def test_server_that_is_gone_is_told(self, served: Any, opened: Any) -> None:
        page = served("ann")
        driver = opened(page.door.address)
        until(lambda: driver.execute_script(READY))
        page.close()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", page.door.port), 2)
        driver.find_element("css selector", "[data-verdict=left]").click()
        until(lambda: "does not answer" in driver.find_element("id", "trouble").text)
