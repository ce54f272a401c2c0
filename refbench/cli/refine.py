"""``refbench refine``: put a detail of one picture right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def refine(
    draft: Annotated[Path, typer.Argument(help="The picture whose detail is wrong.")],
    reference: Annotated[Path, typer.Option("--reference", "-r", help="A picture that shows it right.")],
    out: Annotated[Path, typer.Option("--out", help="Where the refined picture goes (PNG).")],
    mask: Annotated[Path | None, typer.Option("--mask", help="Black and white; white is to be put right.")] = None,
    box: Annotated[str | None, typer.Option("--box", help="x,y,width,height in px, in place of a mask.")] = None,
    reference_box: Annotated[str | None, typer.Option("--reference-box", help="Where it is in the reference.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="An instruction, for checkpoints with text encoders.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="omnirefiner, omnirefiner-sft or omnirefiner-base.")
    ] = "omnirefiner",
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Folder of another checkpoint.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Euler steps.")] = None,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    show: Annotated[
        Path | None, typer.Option("--show", help="Also write draft, reference and result side by side here.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Refine the marked detail of DRAFT from a reference; every pixel outside the mask stays as it is."""
    from refbench.cli import show as terminal
    from refbench.omnirefiner.refine import refine_file

    refine_file(
        draft, reference, out, mask=mask, box=_box(box, "--box"), reference_box=_box(reference_box, "--reference-box"),
        prompt=prompt, variant=model, checkpoint=checkpoint, steps=steps, seed=seed, device=device, show=show,
    )  # fmt: skip
    if as_json:
        terminal.json_out({"out": str(out), "show": show and str(show)})
    else:
        terminal.line(out)


def _box(text: str | None, option: str) -> tuple[int, int, int, int] | None:
    if text is None:
        return None
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise RefbenchError(
            f"Expected {option} x,y,width,height in whole px, but '{text}' came; write e.g. 40,60,120,80."
        ) from None
    return x, y, width, height
