"""The routes of the page: pictures in, jobs, results out. Who may ask is :mod:`refbench.serving`'s business."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from refbench import serving
from refbench.app.examples import Examples
from refbench.app.jobs import Asked, Entry, Jobs
from refbench.app.store import MOST_BYTES, GoneError, Store, shown
from refbench.errors import RefbenchError, check_seed
from refbench.images import MAX_PIXELS
from refbench.plaintext import check_utf8

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

STATIC = Path(str(files("refbench.app") / "static"))
MOST_PROMPT = 2000
"""Characters of a prompt."""
MOST_DIGITS = 12
"""Of a number of pixels."""


def offered(added: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """The models that are ready here, and those that the user adds by file.

    Args:
        added: file.py or file.py:Class, or a folder's place; each is offered under what was written.

    Returns:
        Name -> what the page says of it, with `spec`: what it is opened by.

    Raises:
        RefbenchError: an added model that is not there.
    """
    from refbench.adapters.spec import resolve
    from refbench.runs.catalogue import models

    found = {}
    for spec in added:
        found[spec] = {"summary": "Added with --model.", "licence": "", "price": None, "spec": resolve(spec).target}
    for row in models():
        if row["ready"] == "yes" and row["name"] not in found:
            kept = {"summary": row["summary"], "licence": row["licence"], "price": row["price_per_image_usd"]}
            found[row["name"]] = {**kept, "spec": row["name"]}
    return found


class App:
    """All that the page needs, for as long as it is served.

    Args:
        suite: where examples come from.
        models: as :func:`offered` gives them.
        root: an empty folder for what users send.
        device: for the models.
        timeout_s: longest time for one picture, in seconds.
    """

    def __init__(
        self, suite: str, models: Mapping[str, Mapping[str, Any]], root: Path, *, device: str = "auto",
        timeout_s: float = 600.0,
    ) -> None:  # fmt: skip
        self.examples, self.store, self.models = Examples(suite), Store(root), models
        specs = {name: str(one["spec"]) for name, one in models.items()}
        self.jobs = Jobs(self.store, specs, device=device, timeout_s=timeout_s)

    def close(self) -> None:
        """End what runs, and remove what users sent."""
        self.jobs.close()
        self.store.close()

    def routes(self) -> list[Route]:
        """Of the application."""
        from starlette.routing import Route

        return [
            Route("/", self._page),
            Route("/api/about", self._about),
            Route("/api/pictures", _guarded(self._add_picture), methods=["POST"]),
            Route("/api/pictures/{id}", _guarded(self._picture)),
            Route("/api/masks", _guarded(self._add_mask), methods=["POST"]),
            Route("/api/jobs", _guarded(self._add_job), methods=["POST"]),
            Route("/api/jobs/{id}", _guarded(self._job)),
            Route("/api/jobs/{id}/cancel", _guarded(self._cancel), methods=["POST"]),
            Route("/api/jobs/{id}/{what}", _guarded(self._file)),
            Route("/api/examples/{id}", _guarded(self._example)),
            Route("/api/examples/{id}/{what}", _guarded(self._example_file)),
        ]

    def _page(self, request: Request) -> Response:
        from starlette.responses import FileResponse

        return FileResponse(STATIC / "index.html")

    def _about(self, request: Request) -> Response:
        from refbench.crops import FEATHER
        from refbench.runs.refining import PROMPT

        models = [
            {"name": name, **{key: value for key, value in one.items() if key != "spec"}}
            for name, one in self.models.items()
        ]
        return _json(
            {
                "models": models, "examples": self.examples.rows(), "prompt": PROMPT, "feather": FEATHER,
                "most_bytes": MOST_BYTES, "most_pixels": MAX_PIXELS,
            }
        )  # fmt: skip

    async def _add_picture(self, request: Request) -> Response:
        data = await serving.body_of(request, MOST_BYTES)
        found = await _apart(self.store.put, data, request.query_params.get("name", ""))
        return _json({"id": found.id, "name": found.path.name, "height": found.size[0], "width": found.size[1]})

    async def _picture(self, request: Request) -> Response:
        found = self.store.upload(request.path_params["id"])
        return _bytes(b"" if request.method == "HEAD" else await _apart(shown, found), "image/png")

    async def _add_mask(self, request: Request) -> Response:
        draft = self.store.upload(request.query_params.get("draft", ""))
        painted = request.query_params.get("painted", "")
        if not (painted.isdecimal() and len(painted) <= MOST_DIGITS):
            raise RefbenchError(f"Expected the number of painted pixels as 'painted', but '{painted[:40]}' came.")
        data = await serving.body_of(request, MOST_BYTES)
        return _json({"id": (await _apart(self.store.put_mask, data, draft, int(painted))).id})

    async def _add_job(self, request: Request) -> Response:
        given = await serving.object_of(request, 100_000)
        uploads = [self.store.upload(str(given.get(kind))) for kind in ("draft", "reference", "mask")]
        entry = await _apart(self.jobs.add, *uploads, asked_of(given))
        return _json(self.jobs.told(entry))

    async def _job(self, request: Request) -> Response:
        return _json(self.jobs.told(self.jobs.find(request.path_params["id"])))

    async def _cancel(self, request: Request) -> Response:
        return _json(self.jobs.told(await _apart(self.jobs.cancel, request.path_params["id"])))

    async def _file(self, request: Request) -> Response:
        entry, what = self.jobs.find(request.path_params["id"]), request.path_params["what"]
        if entry.state != "done" or what not in ("result", "mask", "all"):
            raise GoneError("Expected the result, mask or all of a job that is done, but there is no such file.")
        if what == "all":
            return _bytes(await _apart(archive, entry), "application/zip", f"{entry.files.draft.stem}-refined.zip")
        path = entry.files.out if what == "result" else entry.files.mask
        assert path is not None
        return _bytes(await _apart(path.read_bytes), "image/png", path.name)

    async def _example(self, request: Request) -> Response:
        return _json(await _apart(self.examples.facts, request.path_params["id"]))

    async def _example_file(self, request: Request) -> Response:
        found = await _apart(self.examples.picture, request.path_params["id"], request.path_params["what"])
        return _bytes(*found)


def run(
    *, suite: str = "mini", added: Sequence[str] = (), device: str = "auto", timeout_s: float = 600.0,
    host: str = serving.LOOPBACK, port: int = 0, announce: Callable[[str], None],
) -> None:  # fmt: skip
    """Serve the page until the process is interrupted.

    Args:
        suite: where examples come from.
        added: models by file, beside those that are ready here.
        device: for the models.
        timeout_s: longest time for one picture, in seconds.
        host: as :func:`refbench.serving.opened`.
        port: as :func:`refbench.serving.opened`.
        announce: told the address to open.

    Raises:
        RefbenchError: as :func:`offered` and :func:`refbench.serving.serve`, or there is no such suite.
    """
    with tempfile.TemporaryDirectory(prefix="refbench-app-") as folder:
        app = App(suite, offered(added), Path(folder), device=device, timeout_s=timeout_s)
        try:
            serving.serve(app.routes(), STATIC, host=host, port=port, announce=announce)
        finally:
            app.close()


def asked_of(given: Mapping[str, Any]) -> Asked:
    """What a user wants, checked.

    Raises:
        RefbenchError: a prompt, box or seed of another form.
    """
    prompt, box, seed = given.get("prompt") or "", given.get("reference_box"), given.get("seed", 0)
    if not isinstance(prompt, str) or len(prompt) > MOST_PROMPT:
        raise RefbenchError(f"Expected a prompt of at most {MOST_PROMPT} characters; shorten it.")
    check_utf8(prompt, "the prompt")
    if type(seed) is not int:
        raise RefbenchError(f"Expected a whole number as seed, but {str(seed)[:40]} came.")
    check_seed(seed)
    whole = isinstance(box, list) and len(box) == 4 and all(type(part) is int for part in box)
    if box is not None and not whole:
        raise RefbenchError(f"Expected the reference's box as [x, y, width, height] in px, but {str(box)[:60]} came.")
    text = " ".join(prompt.split())  # one line, as a command takes it
    return Asked(str(given.get("model")), text or None, None if box is None else tuple(box), seed)


def archive(entry: Entry) -> bytes:
    """All files of a job that is done, and the command that does it again, as a ZIP."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as packed:
        for path in (entry.files.draft, entry.files.reference, entry.files.mask, entry.files.out):
            assert path is not None
            packed.write(path, path.name)
        packed.writestr("command.txt", entry.command + "\n")
    return buffer.getvalue()


def _guarded(endpoint: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """The endpoint, with status 404 for what is gone."""

    async def answer(request: Request) -> Response:
        try:
            found: Response = await endpoint(request)
        except GoneError as error:
            return _json({"error": str(error)}, 404)
        return found

    return answer


async def _apart(work: Callable[..., Any], *arguments: Any) -> Any:
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(work, *arguments)


def _json(value: Any, status: int = 200) -> Response:
    from starlette.responses import JSONResponse

    return JSONResponse(value, status)


def _bytes(data: bytes, kind: str, name: str | None = None) -> Response:
    from starlette.responses import Response

    headers = {} if name is None else {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}
    return Response(data, media_type=kind, headers=headers)
