"""Numbers that are none and archives that are damaged are findings with a name, never an exception."""

from __future__ import annotations

import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest

from refbench.cli.main import main
from refbench.leaderboard import verify as room

from .conftest import World
from .mutate import packed
from .spoil import change_json, put, records, reseal, scores, write_records

NUMBERS = ("1e999", "-1e999", "NaN", "-Infinity", "1" + "0" * 400, str(2**63))


def finding(verdict: Any) -> tuple[str, str]:
    return verdict.verdict, verdict.findings[0].name


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("member", ["entry.json", "manifest.json", "records.jsonl"])
def test_numbers_that_are_none_are_refused(number: str, member: str, entry: Path, check: Any) -> None:
    mark = 123456789.5
    if member == "records.jsonl":
        write_records(entry, [{**row, "extra": {"x": mark}} for row in records(entry)])
    else:
        change_json(entry, member, put("card", "vram_gb", to=mark))
    (entry / member).write_text((entry / member).read_text().replace(str(mark), number))
    if member != "entry.json":
        reseal(entry)
    assert finding(check(entry)) == ("refused", "not-finite")


def test_text_is_never_a_number(entry: Path, check: Any) -> None:
    change_json(entry, "entry.json", put("card", "price_per_image_usd", to="Infinity"))
    assert finding(check(entry)) == ("refused", "broken-entry")


def test_json_is_printed_whatever_entry_is(entry: Path, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    text = (entry / "entry.json").read_text().replace('"seed": 0', '"seed": 1e999', 1)
    (entry / "entry.json").write_text(text)
    assert main(["verify", str(entry), "--suite", world.spec, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["findings"][0]["name"] == "not-finite"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_members_are_told(method: int, entry: Path, check: Any) -> None:
    path = packed(entry, entry.with_suffix(".zip"), method)
    assert check(path).verdict == "verified"
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("manifest.json")
    data = bytearray(path.read_bytes())
    start = member.header_offset + 30 + len(member.filename) + 9  # behind the properties of LZMA
    data[start : start + 200] = bytes(range(200))
    path.write_bytes(bytes(data))
    assert finding(check(path)) == ("refused", "broken-archive")


def test_members_that_overlap_are_told(entry: Path, check: Any) -> None:
    path = packed(entry, entry.with_suffix(".zip"), zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    size = int.from_bytes(data[at + 20 : at + 24], "little") + 500
    data[at + 20 : at + 28] = size.to_bytes(4, "little") * 2
    path.write_bytes(bytes(data))
    verdict = check(path)
    assert finding(verdict) == ("refused", "broken-archive")
    assert "overlaps" in verdict.findings[0].message


def test_members_of_64_bits_are_read(entry: Path, check: Any) -> None:
    path = packed(entry, entry.with_suffix(".zip"), zipfile.ZIP_DEFLATED, zip64=True)
    assert check(path).verdict == "verified"


def test_what_nobody_foresaw_is_a_finding(entry: Path, check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (RuntimeError("odd"), MemoryError(), OSError(28, "No space left on device"), lzma.LZMAError("x")):

        def fail(*_: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(room, "package_of", fail)
        assert finding(check(entry)) == ("refused", "cannot-verify")


@pytest.mark.parametrize(("column", "value"), [("axis", "local_consistency"), ("region", "full"), ("task", "x")])
def test_score_in_another_place_is_refused(column: str, value: str, entry: Path, check: Any) -> None:
    scores(entry, lambda rows: rows[0].update({column: value}))
    reseal(entry)
    assert finding(check(entry)) == ("refused", "broken-scores")


def test_claims_of_another_bootstrap_are_compared(entry: Path, check: Any) -> None:
    def narrower(data: dict[str, Any]) -> None:
        data["claims"]["resamples"] = 1999
        data["claims"]["mean"]["low"] = data["claims"]["mean"]["value"]

    reseal(entry, narrower)
    assert finding(check(entry)) == ("differs", "claims-differ")


def test_another_cost_than_records_is_refused(entry: Path, check: Any) -> None:
    reseal(entry, put("cost", "seconds", to=1e-6))
    assert finding(check(entry)) == ("refused", "manifest-differs")


def test_a_foreign_small_picture_differs(entry: Path, check: Any) -> None:
    one, two = sorted((entry / "thumbs").iterdir())[:2]
    one.write_bytes(two.read_bytes())
    reseal(entry)
    assert finding(check(entry)) == ("differs", "other-thumbnail")
