"""The arena's page: what a browser asks for, and nothing in any answer that names a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refbench.errors import RefbenchError, missing_package
from refbench.images import mask_box
from refbench.people.arena import Arena, Question
from refbench.people.votes import check_rater
from refbench.plaintext import harmless
from refbench.report import viewer
from refbench.serving import LOOPBACK, object_of, serve

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

STATIC = Path(__file__).with_name("static")
SHARED = Path(viewer.__file__).with_name("static")
SHARED_FILES = ("view.js", "viewer.css")
"""Script and style that the page has in common with the report."""
MOST_BYTES = 4096
"""Of a verdict."""
MOST_SECONDS = 10**9


def serve_arena(
    arena: Arena,
    raters: Sequence[str],
    *,
    host: str = LOOPBACK,
    port: int = 0,
    announce: Callable[[str], None],
) -> None:
    """Serve the page until interrupted; arguments and errors as :func:`routes` and :func:`refbench.serving.serve`."""
    serve(routes(arena, raters), STATIC, host=host, port=port, announce=announce)


def routes(arena: Arena, raters: Sequence[str]) -> list[Route]:
    """What the page answers.

    Args:
        arena: asks and keeps.
        raters: who may vote; empty lets each give a name.

    Raises:
        RefbenchError: the extra `app` is not installed, or a name that is none.
    """
    try:
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import FileResponse, JSONResponse, Response
        from starlette.routing import Route
    except ImportError as error:
        raise missing_package(error, "to serve a page") or error from None
    known = [check_rater(name) for name in raters]

    def checked(name: str) -> str:
        name = check_rater(name)
        if known and name not in known:
            raise RefbenchError(f"Expected one of the raters {', '.join(known)}, but another came; reload the page.")
        return name

    def start(request: Request) -> Response:
        return FileResponse(STATIC / "arena.html")

    def shared(request: Request) -> Response:
        name = request.path_params["name"]
        return FileResponse(SHARED / name) if name in SHARED_FILES else Response(status_code=404)

    def facts(request: Request) -> Response:
        return JSONResponse({"raters": known})

    def question(request: Request) -> Response:
        return JSONResponse(_asked(arena, checked(request.query_params.get("rater", ""))))

    def picture(request: Request) -> Response:
        token, which = request.path_params["token"], request.path_params["which"]
        # a question's pictures never change, and flicker must not load them again
        kept = {"Cache-Control": "private, max-age=3600"}
        return Response(arena.picture(token, which), media_type="image/png", headers=kept)

    async def answer(request: Request) -> Response:
        said = await object_of(request, MOST_BYTES)
        token, verdict, seconds = said.get("question"), said.get("verdict"), said.get("seconds")
        if not (isinstance(token, str) and isinstance(verdict, str) and isinstance(seconds, int | float)):
            raise RefbenchError("Expected question, verdict and seconds of a verdict, but another form came.")
        if seconds > MOST_SECONDS:  # a whole number may be too long for a float
            raise RefbenchError(f"Expected at most {MOST_SECONDS} seconds of a verdict, but more came.")
        rater = await run_in_threadpool(arena.answer, token, verdict, float(seconds))
        return JSONResponse(await run_in_threadpool(_asked, arena, rater))

    async def undo(request: Request) -> Response:
        rater = checked(str((await object_of(request, MOST_BYTES)).get("rater", "")))
        await run_in_threadpool(arena.undo, rater)
        return JSONResponse(await run_in_threadpool(_asked, arena, rater))

    return [
        Route("/", start),
        Route("/shared/{name:str}", shared),
        Route("/facts", facts),
        Route("/question", question),
        Route("/picture/{token:str}/{which:str}", picture),
        Route("/answer", answer, methods=["POST"]),
        Route("/undo", undo, methods=["POST"]),
    ]


def _asked(arena: Arena, rater: str) -> dict[str, Any]:
    """The question before a rater, as the page takes it; without one `token` is None."""
    found = arena.ask(rater)
    progress = {"given": arena.given(rater), "of": arena.most, "undo": arena.can_undo(rater)}
    return {**progress, **({"token": None} if found is None else _told(found, arena.target))}


def _told(question: Question, target: bool) -> dict[str, Any]:
    sample = question.sample
    (height, width), (high, wide) = sample.draft.shape[:2], sample.reference.shape[:2]
    return {
        "token": question.token,
        "prompt": harmless(sample.prompt),
        "size": [width, height],
        "referenceSize": [wide, high],
        "box": list(mask_box(sample.mask)),
        "referenceBox": list(sample.reference_box) if sample.reference_box else None,
        "outline": viewer.outline(sample.mask),
        "target": target,
    }
