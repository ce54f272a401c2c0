"""``refbench refine``: put a detail of one's own pictures right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from refbench.cli import options as o
from refbench.errors import RefbenchError

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def refine(
    drafts: Annotated[
        list[Path], typer.Argument(metavar="DRAFT...", help="Pictures whose detail is wrong, or a folder of them.")
    ],
    reference: Annotated[
        Path,
        typer.Option("--reference", "-r", help="A picture that shows it right, or a folder: one a draft, by name."),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The refined picture: .png, .webp or .tiff (lossless); for several a folder.")
    ],
    mask: Annotated[
        Path | None, typer.Option("--mask", help="Black and white; white is to be put right. Or a folder of masks.")
    ] = None,
    box: Annotated[str | None, typer.Option("--box", help="x,y,width,height in px, in place of a mask.")] = None,
    reference_box: Annotated[str | None, typer.Option("--reference-box", help="Where it is in the reference.")] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="An instruction: to restore, or what to replace by what.")
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="omnirefiner, warp-blend, any of `refbench list models`, or file.py.")
    ] = "omnirefiner",
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Folder of another checkpoint.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="Denoising steps.")] = None,
    focus: o.Focus = False,
    paste_back: o.PasteBack = False,
    option: o.AdapterOptions = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    show: Annotated[
        Path | None, typer.Option("--show", help="Also write draft, reference and result side by side here.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Refine the marked detail of each DRAFT from a reference; the model is loaded once.

    With --reference refs/ --mask masks/ --out refined/ a draft a.jpg takes refs/a.* and masks/a.*, and becomes
    refined/a.png. What was found and changed is told on stderr, and in --json (a list for several pictures).
    """
    from refbench.cli import show as terminal
    from refbench.runs.refining import jobs, refine_files

    asked = jobs(drafts, reference, out, mask=mask, show=show)
    device = o.device(device)
    options = o.adapter_options(option, focus=focus, paste_back=paste_back)
    options |= {
        name: value
        for name, value in (("steps", steps), ("checkpoint", checkpoint and str(checkpoint)))
        if value is not None
    }
    found = []
    for one in refine_files(
        asked, model, box=_box(box, "--box"), reference_box=_box(reference_box, "--reference-box"), prompt=prompt,
        seed=seed, device=device, options=options, heard=terminal.note,
    ):  # fmt: skip
        found.append(one)
        terminal.note(str(one))
        if one.error is None and not as_json:
            terminal.line(one.job.out)
    if as_json:
        rows = [one.to_json() for one in found]
        terminal.json_out(rows if len(rows) > 1 else rows[0])
    raise typer.Exit(1 if any(one.error for one in found) else 0)


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
