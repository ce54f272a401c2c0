"""The board's page in headless Chromium: tabs, sorting, filters with a recomputed pool, nothing asked for elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report import browser

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing())),
]


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    driver = browser.start()
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def _fresh(page: Any, built: Path) -> None:
    page.get("about:blank")
    page.get(browser.address(built / "index.html"))


VISIBLE = "return [...document.querySelectorAll(arguments[0])].filter(c => c.offsetParent).map(c => c.textContent)"


def column(page: Any, key: str) -> list[str]:
    found: list[str] = page.execute_script(VISIBLE, f"#view-overall td[data-key='{key}'] > span:first-child")
    return found


def names(page: Any) -> list[str]:
    found: list[str] = page.execute_script(VISIBLE, "#view-overall tbody th")
    return found


def choose(page: Any, name: str, value: str) -> None:
    page.execute_script(
        "const f = document.forms[0].elements[arguments[0]]; f.value = arguments[1];"
        "f.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def test_click_on_a_head_sorts(page: Any) -> None:
    head = page.find_elements("css selector", "#view-overall thead button")[0]
    head.click()
    falling = names(page)
    head.click()
    assert names(page) == sorted(falling) == falling[::-1]


def test_filter_keeps_order_and_keys_sort(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    head = page.find_element("css selector", "#view-overall thead button")
    head.click()
    ActionChains(page).send_keys("\ue007").perform()  # Enter
    everyone = names(page)
    assert everyone == sorted(everyone)
    choose(page, "reference", "no")
    assert names(page) == sorted(names(page))


def test_phone_shows_whole_names(page: Any, built: Path) -> None:
    phone = browser.start(390, 844, phone=True)
    try:
        phone.get(browser.address(built / "index.html"))
        assert phone.execute_script("return document.documentElement.scrollWidth") <= 390
        lines = phone.execute_script(
            "return [...document.querySelectorAll('#view-overall tbody th')].map(e => {"
            "const r = document.createRange(); r.selectNodeContents(e); return new Set([...r.getClientRects()].map("
            "c => Math.round(c.top))).size; })"
        )
        assert set(lines) == {1}
        box, last, first = phone.execute_script(
            "const f = document.querySelector('#view-overall'); f.scrollLeft = f.scrollWidth;"
            "const r = f.querySelector('tbody tr'), side = e => e.getBoundingClientRect();"
            "return [side(f).right, side(r.lastElementChild), side(r.firstElementChild).right]"
        )
        assert last["right"] <= box + 1
        assert last["left"] >= first
    finally:
        phone.quit()


def test_tabs_show_one_linked_table(page: Any, built: Path) -> None:
    page.find_element("id", "tab-claims").click()
    shown = page.execute_script(
        "return [...document.querySelectorAll('section')].filter(s => !s.hidden).map(s => s.id)"
    )
    assert shown == ["view-claims"]
    assert page.current_url.endswith("#claims")


def test_filter_ranks_its_models_anew(page: Any) -> None:
    whole = dict(zip(names(page), column(page, "rating"), strict=True))
    choose(page, "search", "identity")
    assert names(page) == ["identity"]
    assert column(page, "rating") == ["1000"]
    assert column(page, "place") == ["1"]
    assert column(page, "duels") == ["0–0–0"]
    choose(page, "search", "")
    assert dict(zip(names(page), column(page, "rating"), strict=True)) == whole
    choose(page, "reference", "no")
    left = names(page)
    assert 0 < len(left) < len(whole)
    ratings = [float(text) for text in column(page, "rating")]
    assert sum(ratings) / len(ratings) == pytest.approx(1000, abs=1)


def test_intervals_are_told_on_hover(page: Any) -> None:
    title = page.execute_script("return document.querySelector(`#view-overall td[data-key='mean']`).title")
    assert title.startswith("95 % interval ")


def test_no_model_left_is_said(page: Any) -> None:
    choose(page, "search", "no such model")
    assert names(page) == []
    assert page.find_element("css selector", "#view-overall .none").is_displayed()


def test_console_is_silent_and_offline(page: Any, built: Path) -> None:
    browser.requests(page)
    page.refresh()
    asked = [url for url in browser.requests(page) if not url.startswith("data:")]
    assert {url.partition("#")[0] for url in asked} <= {browser.address(built / "index.html")}
    assert browser.console_errors(page) == []


def test_hostile_names_run_nothing(built: Path, tmp_path: Path) -> None:
    from refbench.leaderboard.board import gather
    from refbench.leaderboard.render import html

    from .test_board import nasty

    path = tmp_path / "nasty.html"
    path.write_text(html(nasty(gather(built))))
    driver = browser.start()
    try:
        driver.execute_cdp_cmd("Page.enable", {})
        driver.get(browser.address(path))
        assert driver.execute_script("return window.owned") is None
        assert driver.execute_script("return document.scripts.length") == 1
        assert browser.console_errors(driver) == []
    finally:
        driver.quit()
