"""``refbench app``: a page to try refiners on pictures of one's own."""

from __future__ import annotations

from typing import Annotated

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def serve(
    model: Annotated[
        list[str] | None,
        typer.Option("--model", "-m", metavar="FILE", help="Also offer a file.py or file.py:Class; may be repeated."),
    ] = None,
    suite: Annotated[
        str, typer.Option("--suite", "-s", metavar="SUITE", help="Where the page's examples come from.")
    ] = "mini",
    device: o.Device = "auto",
    timeout: o.Timeout = 600.0,
    host: Annotated[
        str, typer.Option("--host", help="Address to bind to; any but this machine's own asks for a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="0 takes a free one.")] = 0,
) -> None:
    """Serve a page on which to paint a mask and let the models that are ready here refine it.

    It answers this machine only. With --host 0.0.0.0 others may ask who open the printed address, which holds a token.
    What is sent lies in a temporary folder until the page ends; nothing is asked of other machines.
    """
    from refbench.app.server import run
    from refbench.cli import show

    def announce(address: str) -> None:
        show.line(address)
        show.note("Open it in a browser; Ctrl-C ends the page.")

    run(suite=suite, added=model or (), device=device, timeout_s=timeout, host=host, port=port, announce=announce)
