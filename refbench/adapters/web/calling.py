"""One request to a web service until it is answered: pace, retries with back-off, and what each fault means.

The key is put into the headers here and nowhere else, and taken out of every text and body that leaves.
"""

from __future__ import annotations

import email.utils
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urljoin, urlsplit

from refbench.adapters.contract import FailedError, StopError
from refbench.adapters.web.ledger import Ledger
from refbench.errors import RefbenchError, UnavailableError
from refbench.plaintext import one_line

LONGEST_WAIT_S = 120.0
"""A service that asks for more patience stops the run; it goes on when it is started again."""
BACK_OFF_S = 1.0
"""Before the second try, times a random share between a half and one; doubled before each further one, up to 60 s."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, apart from where it goes and with which key."""

    path: str
    json: dict[str, Any] | None = None
    fields: dict[str, str] | None = None
    """Of a multipart form."""
    files: tuple[tuple[str, tuple[str, bytes, str]], ...] = ()
    """Of a multipart form: (field, (file name, bytes, media type)); a field may come several times."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What an answer is."""

    kind: Literal["image", "refused", "retry", "stop", "failed"]
    why: str = ""
    """Half a sentence, for all but an image."""
    image: bytes = b""
    price_usd: float = 0.0
    wait_s: float | None = None
    """How long the service asks to wait, where the body says so."""
    paid: bool = True
    """Whether an answer that is to be tried again may have cost money."""


@dataclass(slots=True)
class Answer:
    """An answered request: an image or a refusal."""

    reading: Reading
    body: bytes
    status: int
    headers: dict[str, str]
    attempts: int
    price_usd: float
    """Of all attempts together; one whose end nobody saw counts with its highest price."""


def secret(variable: str, who: str) -> str:
    """The key out of the environment.

    Raises:
        UnavailableError: there is none.
        RefbenchError: it holds characters that no key has (a line break, a space); it is not shown.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UnavailableError(
            f"Expected a key for {who} in the environment variable {variable}, but there is none; set it, and never "
            "give it as an option."
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise RefbenchError(f"Expected a key of plain characters in {variable}, but it has others; set it again.")
    return key


def check_base_url(url: str, keyed: bool = True) -> str:
    """A base URL without its last slash.

    Args:
        url: http or https.
        keyed: whether a key is sent there; only then http is for this machine alone.

    Raises:
        RefbenchError: no http(s) URL, one with a password or query in it, or one that would send the key in the clear.
    """
    parts = urlsplit(url)
    local = not keyed or parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise RefbenchError(
            "Expected a base_url without a password, a query or a fragment; keys go into the environment."
        )
    if not parts.hostname or parts.scheme not in ("https", "http") or (parts.scheme == "http" and not local):
        raise RefbenchError(
            f"Expected an https URL as base_url (http only for this machine, or where there is no key), but "
            f"{one_line(url, 80)} came."
        )
    return url.rstrip("/")


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None where it cannot be read."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


@dataclass(slots=True)
class Caller:
    """Sends requests of one service."""

    service: str
    base_url: str
    key: str = field(repr=False)
    authorise: Callable[[str], Mapping[str, str]]
    """From the key to the headers that carry it."""
    read: Callable[[int, bytes], Reading]
    """What an answer with an HTTP status and a body is."""
    completed: Callable[[bytes, Callable[[str], bytes]], bytes]
    """From the body of a good answer, and how to get what a URL in it names, to the body that is kept."""
    ledger: Ledger
    timeout_s: float = 180.0
    attempts: int = 5
    per_minute: float = 10.0
    patience_s: float = 570.0
    """For one sample: no further attempt begins that could end later, below the run's own --timeout of 600 s."""
    _client: Any = field(default=None, repr=False)

    def scrub(self, text: str) -> str:
        """A text without the key."""
        return text.replace(self.key, "[key]") if self.key else text

    def _clean(self, body: bytes) -> bytes:
        return body.replace(self.key.encode(), b"[key]") if self.key else body

    def close(self) -> None:
        """Close the connection."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def ask(self, call: Call, *, sample: str, key: str, most_usd: float, seed: int) -> Answer:
        """Send a request until it is answered with an image or a refusal.

        Args:
            call: what is sent.
            sample: its id, for messages and the ledger.
            key: of the request's content.
            most_usd: what one attempt may cost.
            seed: of the random share of the back-off.

        Raises:
            FailedError: this sample has no answer; its facts hold the price and the attempts.
            StopError: no sample can have one now.
        """
        chance = random.Random(seed)
        lost, begun = 0.0, time.monotonic()
        reading, wait = Reading("failed"), 0.0
        for attempt in range(1, self.attempts + 1):
            if attempt > 1:
                time.sleep(wait)
            time.sleep(self.ledger.wait_for_slot(self.per_minute))
            entry = self.ledger.reserve(most_usd, sample, key)
            status, body, headers, reading = self._once(call)
            if reading.kind == "image" or reading.kind == "refused":
                self.ledger.settle(entry, reading.price_usd)
                return Answer(reading, self._clean(body), status, headers, attempt, round(lost + reading.price_usd, 6))
            if reading.kind == "retry" and reading.paid:
                lost += most_usd
                if status == 200 and body:
                    self.ledger.keep_fault(key, self._clean(body))
            else:
                self.ledger.settle(entry, 0.0)
            if reading.kind == "stop":
                raise StopError(self._sentence(reading.why))
            if reading.kind == "failed":
                break
            asked = retry_after(headers.get("retry-after")) if reading.wait_s is None else reading.wait_s
            wait = max(min(60.0, BACK_OFF_S * 2 ** (attempt - 1)) * chance.uniform(0.5, 1.0), asked or 0.0)
            if wait > LONGEST_WAIT_S:
                raise StopError(
                    self._sentence(
                        f"it asks to wait {wait:.0f} s ({reading.why}); run the same command again after that"
                    )
                )
            if time.monotonic() - begun + wait + self.timeout_s > self.patience_s:
                break
        why = reading.why
        if reading.kind == "retry":
            why = f"{why}, {attempt} times" if attempt > 1 else why
            if not reading.paid and status in (0, 429):  # nothing is wrong with this sample: leave it open
                hint = "run the same command again later" + (", or with less -o requests_per_minute" if status else "")
                raise StopError(self._sentence(f"{why}; {hint}"))
        facts = {"price_usd": round(lost, 6), "attempts": attempt}
        raise FailedError(self._sentence(why), facts)

    def _sentence(self, why: str) -> str:
        return self.scrub(f"Expected an image from {self.service}, but {one_line(why, 360)}.")

    def _once(self, call: Call) -> tuple[int, bytes, dict[str, str], Reading]:
        """(HTTP status or 0, body, headers, what it is)."""
        import httpx

        if self._client is None:
            limits = httpx.Timeout(self.timeout_s, connect=min(20.0, self.timeout_s))
            self._client = httpx.Client(timeout=limits, follow_redirects=False)
        try:
            answer = self._client.post(
                f"{self.base_url}{call.path}",
                headers=dict(self.authorise(self.key)),
                json=call.json,
                data=call.fields,
                files=list(call.files) or None,
            )
            body = self.completed(answer.content, self._get) if answer.status_code == 200 else answer.content
        except _MissingPictureError as error:
            return 1, b"", {}, Reading("retry", str(error))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return 0, b"", {}, Reading("retry", f"it cannot be reached ({type(error).__name__})", paid=False)
        except httpx.TimeoutException:
            return 1, b"", {}, Reading("retry", f"it gave none within {self.timeout_s:g} s")
        except httpx.HTTPError as error:
            return 1, b"", {}, Reading("retry", f"the connection broke off ({type(error).__name__})")
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status_code, body, headers, self.read(answer.status_code, body)

    def _get(self, link: str) -> bytes:
        """What a URL in an answer names, absolute or relative to the service; the key goes to the service alone.

        Raises:
            _MissingPictureError: it is not there, or is no URL of the service and not https.
        """
        url = urljoin(self.base_url, link)
        mine = urlsplit(url)[:2] == urlsplit(self.base_url)[:2]
        if not mine and urlsplit(url).scheme != "https":
            raise _MissingPictureError("its answer names a picture at an address that is not https")
        answer = self._client.get(url, headers=dict(self.authorise(self.key)) if mine else {})
        if answer.status_code != 200:
            raise _MissingPictureError(f"the picture that its answer names came with HTTP {answer.status_code}")
        return bytes(answer.content)


class _MissingPictureError(Exception):
    """A picture that an answer names could not be had."""
