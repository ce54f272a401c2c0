"""A local server for ``/v1/images/edits`` in the dialects of OpenAI, LiteLLM, vLLM-Omni and SGLang.

It is as strict as their documents and sources are, and answers with the draft inverted where the mask says, read by the
polarity that a test names, so that a wrong one is seen. Multipart bodies are taken apart by the standard library.
"""

from __future__ import annotations

import base64
import email.parser
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from .image_service import opened, png

Array = np.ndarray[Any, Any]
KNOWN = {
    "openai": {"model", "prompt", "size", "n", "quality", "response_format", "output_format", "input_fidelity", "user"},
    "vllm-omni": {"model", "prompt", "size", "n", "response_format", "output_format", "seed", "num_inference_steps",
                  "guidance_scale", "true_cfg_scale", "negative_prompt", "strength"},
    "sglang": {"model", "prompt", "size", "n", "response_format", "output_format", "seed", "num_inference_steps",
               "guidance_scale", "true_cfg_scale", "negative_prompt"},
}  # fmt: skip
KNOWN["litellm"] = KNOWN["openai"]


@dataclass
class Seen:
    """One request: form fields, pictures by field in the order sent, and the key."""

    fields: dict[str, str]
    files: list[tuple[str, Array]]
    key: str | None

    def of(self, name: str) -> list[Array]:
        return [picture for field, picture in self.files if field in (name, f"{name}[]")]


@dataclass
class Server:
    """What the server is, and what it was asked."""

    dialect: str
    mask: str
    """How it reads the mask: "alpha", "white", "black", "picture" or "none"."""
    key: str | None = None
    model: str = "served"
    seen: list[Seen] = field(default_factory=list)
    fetched: list[str | None] = field(default_factory=list)
    """The key with which each picture was fetched."""
    link: str = "relative"
    """How a picture is named in an answer by URL: "relative", "absolute", "data", "elsewhere" or "gone"."""
    error: tuple[int, Any] | None = None
    """What the next request is answered instead."""
    url: str = ""
    picture: bytes = b""

    def parse(self, headers: Any, body: bytes) -> Seen:
        head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
        form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        fields: dict[str, str] = {}
        files: list[tuple[str, Array]] = []
        for part in form.iter_parts():
            name, data = str(part.get_param("name", header="content-disposition")), part.get_payload(decode=True)
            if part.get_filename():
                files.append((name, opened(data)))
            else:
                assert name not in fields, name
                fields[name] = data.decode()
        authorised = headers.get("Authorization")
        return Seen(fields, files, authorised and authorised.removeprefix("Bearer "))

    def wrong(self, seen: Seen) -> tuple[int, Any] | None:
        """The answer to a request that the dialect does not take."""
        unknown = set(seen.fields) - KNOWN[self.dialect]
        if unknown:
            return 400, {"error": {"message": f"Unknown parameter: {sorted(unknown)}", "code": "unknown_parameter"}}
        names = {name for name, _ in seen.files}
        if {"image", "image[]"} <= names:
            return 422, {"detail": "Cannot specify both 'image' and 'image[]'"}
        if self.dialect == "vllm-omni":
            if seen.fields.get("model", self.model) != self.model:
                return 400, {"detail": f"Model mismatch: request specifies '{seen.fields['model']}'."}
            if seen.fields.get("response_format", "b64_json") != "b64_json":
                return 400, {"detail": "Only response_format 'b64_json' is supported now."}
            allowed = {"image", "image[]", "mask_image", "reference_image"}
        else:
            allowed = {"image", "image[]", "mask"}
            if self.dialect != "sglang" and len(seen.of("image")) > 1 and "image" in names:
                return 400, {"error": {"message": "Duplicate parameter: 'image'.", "code": "duplicate_parameter"}}
        if names - allowed:
            return 422, {"detail": [{"loc": ["body", sorted(names - allowed)[0]], "msg": "Extra file"}]}
        return None

    def edited(self, seen: Seen) -> Array:
        pictures = seen.of("image")
        draft = pictures[0][..., :3]
        height, width = draft.shape[:2]
        if seen.fields["size"] != "auto":
            assert seen.fields["size"] == f"{width}x{height}"
        given = seen.of("mask_image" if self.dialect == "vllm-omni" else "mask")
        if self.mask == "none" or (self.dialect == "sglang" and self.mask != "picture"):
            return draft
        mask = pictures[-1] if self.mask == "picture" else given[0]
        assert mask.shape[:2] == draft.shape[:2]
        if self.mask == "alpha":
            where = mask[..., 3] == 0
        else:
            assert set(np.unique(mask)) <= {0, 255}
            where = mask[..., 0] == (0 if self.mask == "black" else 255)
        return np.where(where[..., None], 255 - draft, draft).astype(np.uint8)

    def answer(self, seen: Seen) -> dict[str, Any]:
        self.picture = png(self.edited(seen))
        data = base64.b64encode(self.picture).decode()
        if seen.fields.get("response_format") != "url":
            return {"created": 1, "data": [{"b64_json": data, "url": None, "revised_prompt": None}]}
        links = {
            "relative": "/v1/images/img-1/content", "absolute": f"{self.url}/images/img-1/content",
            "data": f"data:image/png;base64,{data}", "elsewhere": "http://127.0.0.2:1/img.png",
            "gone": "/v1/images/img-2/content",
        }  # fmt: skip
        return {"created": 1, "data": [{"url": links[self.link], "revised_prompt": seen.fields["prompt"]}]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def send(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        mine: Server = self.server.mine
        key = self.headers.get("Authorization")
        mine.fetched.append(key and key.removeprefix("Bearer "))
        if self.path == "/v1/images/img-1/content":
            self.send(200, mine.picture, "image/png")
        else:
            self.send(404, b'{"detail": "Image not found"}')

    def do_POST(self) -> None:
        mine: Server = self.server.mine
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/images/edits":
            self.send(404, b'{"detail": "Not Found"}')
            return
        seen = mine.parse(self.headers, body)
        mine.seen.append(seen)
        error, mine.error = mine.error, None
        if error is None and mine.key is not None and seen.key != mine.key:
            error = 401, {"error": {"message": f"Incorrect API key provided: {seen.key}.", "code": "invalid_api_key"}}
        error = error or mine.wrong(seen)
        status, content = error or (200, mine.answer(seen))
        self.send(status, json.dumps(content).encode())


@contextmanager
def serving(dialect: str, mask: str, **about: Any) -> Iterator[Server]:
    """A server of a dialect on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    mine = Server(dialect, mask, **about)
    mine.url = f"http://127.0.0.1:{server.server_port}/v1"
    server.mine = mine  # type: ignore[attr-defined]
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
