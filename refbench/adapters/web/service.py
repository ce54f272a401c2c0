"""What the models behind web services share: pictures to the service's size and back, prices, kept answers."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import inspect
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from refbench.adapters.contract import Account, FailedError, RefusedError
from refbench.adapters.editing import Options, Work, finish, flag, mask_picture, prepare, resize_mask
from refbench.adapters.ready import no_key
from refbench.adapters.web.calling import Call, Caller, Reading, check_base_url, secret
from refbench.adapters.web.ledger import Kept, Ledger, content_key
from refbench.errors import RefbenchError
from refbench.images import Image, decode_image, encode_png, resize
from refbench.plaintext import one_line
from refbench.schema import AdapterCard, Inputs


@dataclasses.dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in USD; tokens by the million."""

    per_image: float
    """What one answer costs about: for the card."""
    most: float
    """What one answer can cost: what the budget is checked against before it is asked for."""
    text_in: float = 0.0
    image_in: float = 0.0
    out: float = 0.0


def commercial(name: str, summary: str, paper: str, price: float) -> AdapterCard:
    """The card of a commercial interface; `price` in USD an image."""
    return AdapterCard(
        name=name, summary=summary, licence="commercial interface, the service's terms", open_weights=False,
        paper=paper, price_per_image_usd=price, needs_network=True, deterministic=False, requires=("httpx", "cv2"),
    )  # fmt: skip


class WebEditor(ABC):
    """An editor behind an HTTP interface.

    Args:
        device: of no use here; the run gives it to every adapter.
        model: the service's name of the model.
        base_url: where the service is, or one that speaks the same.
        price_usd: of one answer, for a model whose price is not known here.
        requests_per_minute: most that the run sends, all its processes together; 0 for no limit.
        timeout_s: for one attempt, in seconds.
        attempts: for one sample.
        focus: show an enlarged crop around the mask instead of the whole draft.
        paste_back: keep the draft's very pixels outside the mask.
    """

    card: AdapterCard
    service: ClassVar[str]
    """Its name in sentences."""
    variable: ClassVar[str]
    """Environment variable of the key."""
    url: ClassVar[str]
    default_model: ClassVar[str]
    prices: ClassVar[Mapping[str, Price]]
    keyless: ClassVar[bool] = False
    """Whether it may be asked without a key."""

    def __init__(
        self,
        *,
        device: str = "cpu",
        model: str | None = None,
        base_url: str | None = None,
        price_usd: float | None = None,
        requests_per_minute: float = 10.0,
        timeout_s: float = 180.0,
        attempts: int = 5,
        focus: bool = False,
        paste_back: bool = False,
    ) -> None:
        self.model = model or self.default_model
        if price_usd is None and self.model not in self.prices:
            raise RefbenchError(
                f"Expected a model of {self.service} whose price is known here ({', '.join(self.prices)}), but "
                f"'{one_line(self.model, 60)}' came; give what one answer costs with -o price_usd=0.05."
            )
        if attempts < 1 or timeout_s <= 0 or (price_usd is not None and not price_usd >= 0):
            raise RefbenchError(
                f"Expected at least one attempt, a timeout above 0 s and a price of 0 or more, but {attempts}, "
                f"{timeout_s} and {price_usd} came."
            )
        self.price = self.prices[self.model] if price_usd is None else Price(price_usd, price_usd)
        self.options = Options(focus=flag(focus, "focus"), paste_back=flag(paste_back, "paste_back"))
        self.base_url = check_base_url(base_url or self.url, not self.keyless or bool(os.environ.get(self.variable)))
        self.calls = (requests_per_minute, timeout_s, attempts)
        self.ledger = Ledger(None)
        self.caller: Caller | None = None
        published = type(self).card
        other = "" if self.model == self.default_model else f"+{self.model.rpartition('/')[2]}"
        self.card = published.model_copy(
            update={
                "name": published.name + other + self.options.suffix,
                "summary": self.options.on_card(published.summary),
                "weights": f"{self.model}, behind {self.service}",
                "price_per_image_usd": self.price.per_image,
            }
        )

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Show all options in the constructor's signature, so that a wrong one is told with near names."""
        super().__init_subclass__(**arguments)
        found = {**inspect.signature(WebEditor.__init__).parameters, **inspect.signature(cls.__init__).parameters}
        named = [p for name, p in found.items() if name not in ("self", "options")]
        cls.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]

    @classmethod
    def ready(cls) -> str | None:
        """None when the key is in the environment, else which variable is missing."""
        return no_key(cls.variable)

    def use_account(self, account: Account) -> None:
        """Keep answers and costs in a run's folder, within its limit."""
        self.ledger = Ledger(account)

    def setup(self) -> None:
        """Take the key out of the environment.

        Raises:
            UnavailableError: there is none.
        """
        free = self.keyless and not os.environ.get(self.variable)
        key = "" if free else secret(self.variable, self.service)
        pace, timeout_s, attempts = self.calls
        self.caller = Caller(
            self.service,
            self.base_url,
            key,
            self.headers,
            self.read,
            self.completed,
            self.ledger,
            timeout_s,
            attempts,
            pace,
        )

    def close(self) -> None:
        """Close the connection."""
        if self.caller is not None:
            self.caller.close()

    def refine(self, inputs: Inputs, /) -> tuple[Image, dict[str, Any]]:
        """The service's picture, brought to the draft's size, and what it cost.

        Raises:
            RefusedError: a safety filter declined.
            FailedError: no answer that can be used.
            StopError: wrong key, budget or quota spent, the service cannot be reached.
        """
        if self.caller is None:
            self.setup()
        assert self.caller is not None
        try:
            return self._refine(self.caller, inputs)
        except RefbenchError:
            raise
        except Exception as error:  # what a library says could hold a header
            text = self.caller.scrub(one_line(f"{type(error).__name__}: {error}"))
            raise RefbenchError(f"Expected an image from {self.service}, but this went wrong: {text}.") from None

    def _refine(self, caller: Caller, inputs: Inputs) -> tuple[Image, dict[str, Any]]:
        work = self.fitted(prepare(inputs, self.options))
        text = self.text(inputs)
        pictures = {"draft": work.draft, "reference": work.reference, "mask": work.mask}
        key = content_key({"service": type(self).card.name, **self.parameters(work), "text": text}, pictures)
        kept = self.ledger.kept(key)
        repeated = kept is not None
        if kept is None:
            call = self.call(work, text)
            answer = caller.ask(call, sample=inputs.id, key=key, most_usd=self.price.most, seed=inputs.seed)
            about = ("content-type", "date", "x-request-id", "request-id")
            facts = {
                "outcome": answer.reading.kind,
                "why": caller.scrub(answer.reading.why),
                "price_usd": answer.price_usd,
                "attempts": answer.attempts,
                "status": answer.status,
                "sample": inputs.id,
                "model": self.model,
                "headers": {name: caller.scrub(answer.headers[name]) for name in about if name in answer.headers},
            }
            kept = Kept(answer.body, facts)
            self.ledger.keep(key, kept)
        told = {"price_usd": kept.facts["price_usd"], "attempts": kept.facts["attempts"], "response": key}
        if repeated:
            told["kept_before"] = True
        reading = self.read(int(kept.facts["status"]), kept.body)
        if reading.kind == "refused":
            raise RefusedError(
                caller.scrub(f"Expected an image from {self.service}, but it refused: {one_line(reading.why, 300)}."),
                told,
            )
        if reading.kind != "image":
            raise FailedError(f"Expected an image in the kept answer {key}, but there is none; remove it.", told)
        picture = decode_image(reading.image, f"the answer of {self.service} for '{inputs.id}'")
        told["answer_size"] = f"{picture.shape[1]}x{picture.shape[0]}"
        return finish(work, self.framed(work, picture), self.options), told

    def read(self, status: int, body: bytes) -> Reading:
        """What an answer is; the faults that all services share are told apart here."""
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if status == 200:
            if not isinstance(content, dict):
                return Reading("retry", "its answer is no JSON object")
            try:
                reading = self.read_answer(content)
                if reading.kind == "image":
                    decode_image(reading.image, "the answer")
                return reading
            except (binascii.Error, KeyError, TypeError, ValueError, AttributeError):
                return Reading("retry", "its answer is not in the documented form")
            except RefbenchError:
                return Reading("retry", "the picture in its answer cannot be decoded")
        error = (content.get("error") or content.get("detail")) if isinstance(content, dict) else None
        if not isinstance(error, dict):
            error = {"message": str(error)} if error else {}
        return self.read_error(status, error)

    def read_error(self, status: int, error: dict[str, Any]) -> Reading:
        """What an HTTP status with the service's error object means."""
        said = one_line(str(error.get("message") or "no reason given").rstrip("."), 200)
        if status == 401:
            return Reading("stop", f"it does not accept the key in {self.variable} (HTTP 401); set a valid one")
        if status in (402, 403):
            return Reading("stop", f"the key in {self.variable} may not do this (HTTP {status}: {said})")
        if status == 404:
            return Reading("stop", f"it knows no model '{one_line(self.model, 60)}' at {self.base_url} (HTTP 404)")
        if 300 <= status < 400:
            return Reading(
                "stop", f"it redirects elsewhere (HTTP {status}), where the key is not sent; correct base_url"
            )
        if status in (408, 409, 425, 429) or status >= 500:
            return Reading("retry", f"it answered HTTP {status} ({said})", paid=False)
        return Reading("failed", f"it does not take the request (HTTP {status}: {said})")

    # ---- what differs

    def completed(self, body: bytes, get: Callable[[str], bytes]) -> bytes:
        """The body of a good answer as it is kept; `get` fetches what a URL in it names."""
        return body

    def framed(self, work: Work, picture: Image) -> Image:
        """The part of an answered picture that stands for the draft's frame."""
        return picture

    def fitted(self, work: Work) -> Work:
        """The sample at a size that the service works at."""
        size = self.size(work.size)
        return dataclasses.replace(work, draft=resize(work.draft, size), mask=resize_mask(work.mask, size))

    def parameters(self, work: Work) -> dict[str, Any]:
        """All that decides the answer beside the pictures and the text."""
        return {"model": self.model}

    def text(self, inputs: Inputs) -> str:
        """What the service is told."""
        said = [
            "The first image is a draft in which one region is wrong. The second image is a reference that shows the "
            "same thing right.",
            self.mask_words,
            f"{inputs.prompt.strip().rstrip('.')}. Take the detail from the reference and put it into that region of "
            "the draft with the draft's own perspective, size, light and focus. Leave everything outside the region "
            "exactly as it is, keep the framing, and return the whole draft.",
        ]
        return " ".join(filter(None, said))

    mask_words: ClassVar[str] = (
        "The third image is a mask of the draft: white is the region, black is not to be changed."
    )

    @abstractmethod
    def headers(self, key: str) -> Mapping[str, str]:
        """The headers that carry the key."""

    @abstractmethod
    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) at which the service works for a draft of a size."""

    @abstractmethod
    def call(self, work: Work, text: str) -> Call:
        """The request for a sample."""

    @abstractmethod
    def read_answer(self, content: dict[str, Any]) -> Reading:
        """What an answer with HTTP 200 is; KeyError and the like mean that it has not the documented form."""


def picture_base64(picture: Image) -> str:
    """A picture as base64 of a PNG."""
    return base64.b64encode(encode_png(picture)).decode()


def mask_base64(work: Work) -> str:
    """The mask as base64 of a black and white PNG."""
    return picture_base64(mask_picture(work.mask))


def bytes_of(text: Any) -> bytes:
    """The bytes behind base64.

    Raises:
        ValueError: it is no base64.
    """
    return base64.b64decode(str(text), validate=True)
