"""Models behind the route ``/images/edits``: `gpt-image`, and `openai-images` for whatever else speaks it.

As documented by OpenAI (platform.openai.com/docs/api-reference/images/createEdit, and the docstrings of its Python
client 3.57), vLLM-Omni (docs/serving/image_edit_api.md), SGLang (docs/diffusion/openai_api.md, image_api.py) and
LiteLLM (docs.litellm.ai/docs/image_edits). OpenAI's client has no way to send a file that its own interface does not
know (``mask_image``, ``reference_image``), so that requests are made as for all services here; where the client has the
fields, the tests hold them against it. What could be tried is a local server that speaks these dialects; no service
was called.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from refbench.adapters.editing import Work, beside, mask_picture
from refbench.adapters.web.calling import Call, Reading
from refbench.adapters.web.service import Price, WebEditor, bytes_of, commercial
from refbench.errors import RefbenchError
from refbench.images import Image, Mask, encode_png
from refbench.schema import AdapterCard, Inputs

MaskForm = Literal["alpha", "white", "black", "picture", "none"]
"""How the mask is sent: transparent, white or black where the detail is to be put right; as one more picture, white
there; not at all."""
Layout = Literal["several", "reference", "one"]
"""How the pictures are sent: draft and reference as several pictures, the reference in a field of its own, or both on
one canvas, the reference at the right."""


def mask_as(form: MaskForm, draft: Image, mask: Mask) -> np.ndarray[Any, Any]:
    """The mask as it is sent: (H, W, 4) for "alpha", over the draft's colours; else (H, W, 3), black and white."""
    if form == "alpha":
        return np.dstack([draft, np.where(mask, 0, 255).astype(np.uint8)])
    return mask_picture(~mask if form == "black" else mask)


def part(field: str, name: str, picture: np.ndarray[Any, Any]) -> tuple[str, tuple[str, bytes, str]]:
    """A picture, (H, W, 3) or (H, W, 4) uint8, as a PNG in a field of a multipart form."""
    if picture.shape[2] == 3:
        return field, (f"{name}.png", encode_png(picture), "image/png")
    from PIL import Image as PILImage

    buffer = io.BytesIO()
    PILImage.fromarray(picture, "RGBA").save(buffer, "PNG", compress_level=3)
    return field, (f"{name}.png", buffer.getvalue(), "image/png")


def told_apart(variable: str, error: Mapping[str, Any]) -> Reading | None:
    """A refusal or a spent account behind an error object of this route; None for any other."""
    code, said = str(error.get("code")), str(error.get("message"))
    if code in ("moderation_blocked", "content_policy_violation") or "safety system" in said:
        return Reading("refused", f"{code} ({said.rstrip('.')})")
    if code in ("insufficient_quota", "billing_hard_limit_reached"):
        return Reading("stop", f"the account behind {variable} has no money left ({code})")
    return None


class GPTImage(WebEditor):
    """OpenAI's image model by ``images/edits``: draft and reference as pictures, the mask as alpha.

    Args:
        quality: "low", "medium" or "high".
        input_fidelity: "high" keeps the draft's details better and costs more input, or "low".
        options: those of :class:`~refbench.adapters.web.service.WebEditor`.
    """

    card = commercial(
        "gpt-image",
        "OpenAI's image model by its images/edits interface, with the mask as alpha.",
        "https://platform.openai.com/docs/api-reference/images/createEdit",
        0.132,
    )
    service = "the OpenAI API"
    variable = "OPENAI_API_KEY"
    url = "https://api.openai.com/v1"
    default_model = "gpt-image-2"
    prices: ClassVar[Mapping[str, Price]] = {
        "gpt-image-2": Price(0.132, 0.17, text_in=5.0, image_in=8.0, out=30.0),
        "gpt-image-2.5-flare": Price(0.132, 0.17, text_in=5.0, image_in=8.0, out=30.0),
        "gpt-image-2.5-sunburst": Price(0.132, 0.17, text_in=5.0, image_in=8.0, out=30.0),
        "gpt-image-1.5": Price(0.113, 0.167, text_in=5.0, image_in=8.0, out=32.0),
        "gpt-image-1-mini": Price(0.013, 0.017, text_in=2.0, image_in=2.5, out=8.0),
    }
    """At medium quality and, where a model has the choice, high fidelity; the options change them."""
    out_tokens: ClassVar[Mapping[str, Mapping[str, tuple[int, int]]]] = {
        "1": {"low": (272, 408), "medium": (1056, 1584), "high": (4160, 6240)},
        "2": {"low": (200, 200), "medium": (1767, 1767), "high": (7034, 7034)},
    }
    """By generation and quality, of a usual answer and of the most expensive; of the second by the documented price
    of a picture at $30 a million: $0.006, $0.053 and $0.211."""
    in_tokens: ClassVar[Mapping[str, tuple[int, int]]] = {"low": (1200, 1400), "high": (9520, 14200)}
    """Of draft and reference: squares, and at most."""
    mask_words = "The transparent part of the mask is the region."

    def __init__(
        self,
        *,
        quality: Literal["low", "medium", "high"] = "medium",
        input_fidelity: Literal["low", "high"] = "high",
        **options: Any,
    ) -> None:
        if quality not in ("low", "medium", "high") or input_fidelity not in ("low", "high"):
            raise RefbenchError(
                f"Expected the quality low, medium or high and the input_fidelity low or high, but '{quality}' and "
                f"'{input_fidelity}' came."
            )
        super().__init__(**options)
        self.quality, self.input_fidelity = quality, input_fidelity
        if self.price.out:
            fidelity = "low" if self.model.endswith("-mini") else input_fidelity if self._has_fidelity else "high"
            tokens = self.out_tokens["1" if self.model.startswith("gpt-image-1") else "2"][quality]
            about, most = (
                (600 * self.price.text_in + taken * self.price.image_in + given * self.price.out) / 1e6
                for taken, given in zip(self.in_tokens[fidelity], tokens, strict=True)
            )
            self.price = dataclasses.replace(self.price, per_image=round(about, 3), most=round(most, 3))
            self.card = self.card.model_copy(update={"price_per_image_usd": self.price.per_image})

    def headers(self, key: str) -> Mapping[str, str]:
        """A bearer token."""
        return {"Authorization": f"Bearer {key}"}

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The nearest of the three sizes; the draft is stretched to it and the answer back."""
        shape = size[1] / size[0]
        return (1024, 1024) if 0.82 < shape < 1.22 else (1024, 1536) if shape > 1 else (1536, 1024)

    def parameters(self, work: Work) -> dict[str, Any]:
        """Model, quality and fidelity."""
        found = {"model": self.model, "quality": self.quality}
        return {**found, "input_fidelity": self.input_fidelity} if self._has_fidelity else found

    @property
    def _has_fidelity(self) -> bool:
        """Whether the model takes `input_fidelity`; gpt-image-2 and later always read pictures at high fidelity."""
        return self.model.startswith("gpt-image-1.5")

    def call(self, work: Work, text: str) -> Call:
        """A multipart form: the draft first, as the mask belongs to the first picture."""
        height, width = work.size
        parts = (
            ("image[]", "draft", work.draft),
            ("image[]", "reference", work.reference),
            ("mask", "mask", mask_as("alpha", work.draft, work.mask)),
        )
        return Call(
            "/images/edits",
            fields={
                **self.parameters(work),
                "prompt": text,
                "size": f"{width}x{height}",
                "n": "1",
                "output_format": "png",
            },
            files=tuple(part(*one) for one in parts),
        )

    def read_answer(self, content: dict[str, Any]) -> Reading:
        """The one picture of ``data``, priced by its ``usage``."""
        return Reading(
            "image", image=bytes_of(content["data"][0]["b64_json"]), price_usd=self._price(content.get("usage"))
        )

    def _price(self, usage: dict[str, Any] | None) -> float:
        if not usage or not self.price.out:
            return self.price.per_image
        details = usage.get("input_tokens_details") or {}
        text = details.get("text_tokens", 0)
        pictures = details.get("image_tokens", usage.get("input_tokens", 0) - text)
        usd = (
            text * self.price.text_in + pictures * self.price.image_in + usage.get("output_tokens", 0) * self.price.out
        )
        return round(float(usd) / 1e6, 6)

    def read_error(self, status: int, error: dict[str, Any]) -> Reading:
        """As all services; moderation is a refusal, and a spent quota comes as HTTP 429 too."""
        return told_apart(self.variable, error) or super().read_error(status, error)


@dataclasses.dataclass(frozen=True, slots=True)
class Dialect:
    """What a kind of server makes of the route."""

    pictures: Layout
    mask: MaskForm
    many: str
    """Field of each of several pictures."""
    mask_field: str
    extended: bool
    """Whether it takes a seed and diffusion settings, and has to be told the form of its answer."""


DIALECTS: dict[str, Dialect] = {
    "openai": Dialect("several", "alpha", "image[]", "mask", False),
    "litellm": Dialect("several", "alpha", "image[]", "mask", False),
    "vllm-omni": Dialect("reference", "white", "image", "mask_image", True),
    # it takes a field `mask` and does nothing with it
    "sglang": Dialect("several", "picture", "image", "mask", True),
}


ADDRESS = "-o base_url=http://HOST:8000/v1 -o model=NAME"
"""How an endpoint is named."""


class OpenAIImages(WebEditor):
    """Any model behind ``POST /images/edits``, in the dialect of OpenAI, LiteLLM, vLLM-Omni or SGLang.

    The key, if the server wants one, is in OPENAI_IMAGES_API_KEY; without one, plain http is allowed everywhere.

    Args:
        dialect: "openai", "litellm", "vllm-omni" or "sglang": what the following two are where they are not given.
        pictures: "several", "reference" (the reference in ``reference_image``) or "one" (one canvas).
        mask: "alpha", "white", "black", "picture" or "none": how the mask is sent, and what marks the region in it.
        answer: "b64_json" or "url": what is asked for. Whichever comes is read.
        size: side in px of the square whose area is worked at.
        instruction: what is asked, with {prompt} where the sample's prompt belongs.
        fields: further fields of the form, as ``num_inference_steps=8,true_cfg_scale=4``.
        options: those of :class:`~refbench.adapters.web.service.WebEditor`; `base_url` must be given.
    """

    card = AdapterCard(
        name="openai-images",
        summary="A model behind an endpoint that speaks OpenAI's images/edits, or vLLM-Omni's, SGLang's or LiteLLM's.",
        licence="of the model behind the endpoint", paper=None, needs_network=True, deterministic=False,
        requires=("httpx", "cv2"),
    )  # fmt: skip
    service = "the endpoint"
    variable = "OPENAI_IMAGES_API_KEY"
    url = ""
    default_model = ""
    prices: ClassVar[Mapping[str, Price]] = {}
    keyless = True

    def __init__(
        self,
        *,
        dialect: str = "openai",
        pictures: Layout | None = None,
        mask: MaskForm | None = None,
        answer: Literal["b64_json", "url"] | None = None,
        size: int = 1024,
        instruction: str | None = None,
        fields: str = "",
        **options: Any,
    ) -> None:
        if not options.get("base_url"):
            raise RefbenchError(f"Expected the address of an endpoint, but none was given; {ADDRESS}.")
        chosen: tuple[tuple[str, Any, tuple[Any, ...]], ...] = (
            ("dialect", dialect, tuple(DIALECTS)),
            ("pictures", pictures, (*get_args(Layout), None)),
            ("mask", mask, (*get_args(MaskForm), None)),
            ("answer", answer, ("b64_json", "url", None)),
        )
        for name, value, known in chosen:
            if value not in known:
                named = ", ".join(str(one) for one in known if one is not None)
                raise RefbenchError(f"Expected the option {name} to be one of {named}, but it is '{value}'.")
        if not isinstance(size, int) or size < 16:
            raise RefbenchError(f"Expected the option size to be a whole number of at least 16, but it is '{size}'.")
        if options.get("price_usd") is None and os.environ.get(self.variable):
            raise RefbenchError(
                f"Expected what one answer costs, as there is a key in {self.variable}; -o price_usd=0.05, or 0 where "
                "nothing is charged."
            )
        super().__init__(**{**options, "price_usd": options.get("price_usd") or 0.0})
        self.dialect, self.spoken = DIALECTS[dialect], dialect
        self.pictures, self.mask = pictures or self.dialect.pictures, mask or self.dialect.mask
        self.answer = answer or ("b64_json" if self.dialect.extended else None)
        self.options = dataclasses.replace(self.options, size=size)
        self.instruction = instruction
        self.fields = _pairs(fields)

    @classmethod
    def ready(cls) -> str | None:
        """An endpoint has to be named."""
        return f"no endpoint, {ADDRESS}"

    def headers(self, key: str) -> Mapping[str, str]:
        """A bearer token, where there is one."""
        return {"Authorization": f"Bearer {key}"} if key else {}

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The draft's own shape."""
        return size

    def parameters(self, work: Work) -> dict[str, Any]:
        """The model and every option that changes what is sent."""
        sent = {"pictures": self.pictures, "mask": self.mask, "answer": self.answer, "fields": self.fields}
        return {"model": self.model, "url": self.base_url, "dialect": self.spoken, "seed": work.inputs.seed, **sent}

    def text(self, inputs: Inputs) -> str:
        """What is asked: where the reference has a field of its own the prompt alone, else what each picture is."""
        if self.instruction is not None:
            return self.instruction.replace("{prompt}", inputs.prompt)
        if self.pictures == "reference":
            return inputs.prompt
        if self.pictures == "one":
            return (
                f"{inputs.prompt.strip().rstrip('.')}. The left part of the picture is a draft, the right part a "
                "reference that shows the same thing right. Take the detail from the reference into the draft, and "
                f"leave everything else as it is. {self.mask_words}"
            ).strip()
        return super().text(inputs)

    @property
    def mask_words(self) -> str:  # type: ignore[override]
        """What marks the region, in words."""
        if self.mask == "picture":
            return f"The {'second' if self.pictures == 'one' else 'third'} image is a mask of it: white is the region."
        words = {"alpha": "The transparent", "white": "The white", "black": "The black"}
        return f"{words[self.mask]} part of the mask is the region." if self.mask in words else ""

    def call(self, work: Work, text: str) -> Call:
        """A multipart form: the draft, or the canvas, first, as the mask belongs to the first picture."""
        draft, mask = work.draft, work.mask
        pictures = [("draft", draft), ("reference", work.reference)]
        if self.pictures == "one":
            draft = beside(draft, work.reference)
            mask = np.pad(mask, ((0, 0), (0, draft.shape[1] - mask.shape[1])))
            pictures = [("canvas", draft)]
        elif self.pictures == "reference":
            pictures = [("draft", draft)]
        if self.mask == "picture":
            pictures.append(("mask", mask_as("white", draft, mask)))
        field = self.dialect.many if len(pictures) > 1 else "image"
        files = [part(field, name, picture) for name, picture in pictures]
        if self.pictures == "reference":
            files.append(part("reference_image", "reference", work.reference))
        if self.mask in ("alpha", "white", "black"):
            files.append(part(self.dialect.mask_field, "mask", mask_as(self.mask, draft, mask)))
        told = {"model": self.model} if self.model else {}
        if self.dialect.extended:
            told |= {"seed": str(work.inputs.seed), "output_format": "png"}
        if self.answer:
            told["response_format"] = self.answer
        size = f"{draft.shape[1]}x{draft.shape[0]}"
        return Call(
            "/images/edits",
            fields={**told, "prompt": text, "size": size, "n": "1", **self.fields},
            files=tuple(files),
        )

    def completed(self, body: bytes, get: Callable[[str], bytes]) -> bytes:
        """The answer with its picture in it, fetched where it is only named: a URL is soon forgotten."""
        try:
            content = json.loads(body)
            first = content["data"][0]
            link = None if first.get("b64_json") else first.get("url")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            return body
        if not isinstance(link, str):
            return body
        head, comma, data = link.partition(",")
        inside = bool(comma) and head.startswith("data:image/") and head.endswith(";base64")
        first["b64_json"] = data if inside else base64.b64encode(get(link)).decode()
        return json.dumps(content).encode()

    def read_answer(self, content: dict[str, Any]) -> Reading:
        """The first picture of ``data``."""
        return Reading("image", image=bytes_of(content["data"][0]["b64_json"]), price_usd=self.price.per_image)

    def framed(self, work: Work, picture: Image) -> Image:
        """The draft's part of an answer to a canvas."""
        if self.pictures != "one":
            return picture
        canvas = beside(work.draft, work.reference).shape[1]
        return picture[:, : max(1, round(picture.shape[1] * work.draft.shape[1] / canvas))]

    def read_error(self, status: int, error: dict[str, Any]) -> Reading:
        """As all services; moderation is a refusal."""
        return told_apart(self.variable, error) or super().read_error(status, error)


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, (one.strip() for one in str(text).split(","))):
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise RefbenchError(f"Expected the option fields as name=value,name=value, but '{pair}' came.")
        found[name] = value
    return found
