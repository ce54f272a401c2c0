"""``refbench import``: own pictures and public datasets become suites."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from refbench.cli import options as o

if TYPE_CHECKING:
    from refbench.tasks.entries import Found
    from refbench.tasks.importing import Imported, Rules
    from refbench.tasks.layouts import Layout

app = typer.Typer(cls=o.Group, add_completion=False, rich_markup_mode=None, help="Make a suite of your own pictures.")

Out = Annotated[Path, typer.Option("--out", help="Folder of the suite; an unfinished import is gone on with.")]
Map = Annotated[
    str | None,
    typer.Option("--map", metavar="FIELD=COLUMN,...", help="Which column holds what, e.g. draft=input_path."),
]
LayoutName = Annotated[
    str | None,
    typer.Option(
        "--layout", metavar="NAME", help="A public dataset: critic-10k, hp-image-40k, cufed5, wr-sr, ref-sr, ..."
    ),
]
NoTargets = Annotated[bool, typer.Option("--no-targets", help="Leave targets aside: the suite has none.")]
Invert = Annotated[
    bool | None,
    typer.Option("--invert/--no-invert", help="Masks are black where the detail is wrong; asked where one looks so."),
]
Alpha = Annotated[
    str | None, typer.Option("--alpha", help="Masks in the alpha channel: what is wrong is transparent, or opaque.")
]
Resize = Annotated[bool, typer.Option("--resize", help="Bring draft and mask to the target's (draft's) size.")]
Category = Annotated[str, typer.Option("--category", help="text, logo, pattern, face or object, where none is said.")]
Mode = Annotated[str, typer.Option("--mode", help="refine or replace, where none is said.")]
Licence = Annotated[str | None, typer.Option("--licence", help="Of the pictures, where none is said.")]
Attribution = Annotated[str, typer.Option("--attribution", help="Whom to credit, where none is said.")]


@app.command()
def folders(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="With drafts/, references/, masks/ and more.")],
    out: Out,
    layout: LayoutName = None,
    no_targets: NoTargets = False,
    invert: Invert = None,
    alpha: Alpha = None,
    resize: Resize = False,
    category: Category = "object",
    mode: Mode = "refine",
    licence: Licence = None,
    attribution: Attribution = "unknown",
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Import folders of pictures that have the same names: drafts/, references/, masks/, and targets/ if there are any.

    boxes.csv (id, x, y, width, height) says where the detail is in the reference, prompts.csv (id, prompt, and
    category, text, licence, ... if wanted) what to do. White in a mask means put right. What is amiss is told, sample
    by sample; exit code 1 where samples were left out, 2 where none could be used.
    """
    from refbench.tasks.entries import from_folders
    from refbench.tasks.layouts import from_layout, layout_named

    kind = None if layout is None else layout_named(layout)
    rules = _rules(kind, invert, alpha, resize, category, mode, licence, attribution)
    found = from_folders(folder) if layout is None else from_layout(layout, folder)
    _import(found, out, rules, no_targets, overwrite, as_json)


@app.command()
def table(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines, JSON, CSV or Parquet; paths in columns.")],
    out: Out,
    map_: Map = None,
    layout: LayoutName = None,
    root: Annotated[
        Path | None, typer.Option("--root", help="What its paths are relative to; by default its own folder.")
    ] = None,
    no_targets: NoTargets = False,
    invert: Invert = None,
    alpha: Alpha = None,
    resize: Resize = False,
    category: Category = "object",
    mode: Mode = "refine",
    licence: Licence = None,
    attribution: Attribution = "unknown",
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Import a table: a row a sample, with paths of draft, reference, mask and target (or mask_box: x,y,width,height).

    Columns of the fields' own names are found by themselves: draft, reference, mask, target, id, prompt, reference_box,
    mask_box, category, mode, text, source_id, licence, attribution, source. Others are named with --map.
    """
    from refbench.errors import RefbenchError
    from refbench.tasks.entries import from_table, mapping
    from refbench.tasks.layouts import layout_named

    kind = None if layout is None else layout_named(layout)
    if kind is not None and not kind.columns:
        raise RefbenchError(
            f"Expected a layout of a table, but {layout} is one of folders; use 'refbench import folders DIR'."
        )
    rules = _rules(kind, invert, alpha, resize, category, mode, licence, attribution)
    found = from_table(file, {**(kind.columns if kind else {}), **mapping(map_)}, root)
    _import(found, out, rules, no_targets, overwrite, as_json)


@app.command()
def dataset(
    name: Annotated[str, typer.Argument(metavar="ID_OR_DIR", help="Of the Hugging Face hub, or a folder.")],
    out: Out,
    map_: Map = None,
    split: Annotated[str, typer.Option("--split", help="Which part, e.g. test or train[:100].")] = "train",
    config: Annotated[str | None, typer.Option("--config", help="Which configuration, if it has several.")] = None,
    no_targets: NoTargets = False,
    invert: Invert = None,
    alpha: Alpha = None,
    resize: Resize = False,
    category: Category = "object",
    mode: Mode = "refine",
    licence: Licence = None,
    attribution: Attribution = "unknown",
    overwrite: o.Overwrite = False,
    as_json: o.Json = False,
) -> None:
    """Import a dataset through the `datasets` library; columns hold pictures or paths, as in a table."""
    from refbench.tasks.entries import from_dataset, mapping

    rules = _rules(None, invert, alpha, resize, category, mode, licence, attribution)
    rules = dataclasses.replace(rules, source=name)
    found = from_dataset(name, mapping(map_), split=split, config=config)
    _import(found, out, rules, no_targets, overwrite, as_json)


def _rules(
    layout: Layout | None,
    invert: bool | None,
    alpha: str | None,
    resize: bool,
    category: str,
    mode: str,
    licence: str | None,
    attribution: str,
) -> Rules:
    """The options as rules, with what a layout says; its licence and source are told."""
    from typing import cast, get_args

    from refbench import schema
    from refbench.cli import show
    from refbench.errors import unknown_name
    from refbench.tasks.importing import Rules

    for what, value, known in (
        ("category", category, get_args(schema.Category)),
        ("mode", mode, get_args(schema.Mode)),
        ("alpha", alpha or "opaque", ("transparent", "opaque")),
    ):
        if value not in known:
            raise unknown_name(what, value, known)
    rules = Rules(
        invert, cast(Literal["opaque", "transparent"] | None, alpha), resize, cast(schema.Category, category),
        cast(schema.Mode, mode), licence or "unknown", attribution,
    )  # fmt: skip
    if layout is not None:
        show.note(f"{layout.title}\nsource: {layout.source}\nlayout: {layout.learnt}\nlicence: {layout.licence}")
        rules = dataclasses.replace(
            rules, licence=licence or layout.licence, source=layout.source, resize=resize or layout.resize,
            mode=cast(schema.Mode, mode if mode != "refine" else layout.mode),
        )  # fmt: skip
    return rules


def _import(found: Found, out: Path, rules: Rules, no_targets: bool, overwrite: bool, as_json: bool) -> None:
    """Import, ask once about masks that look inverted, and tell what came of it."""
    from refbench.cli import show
    from refbench.cli.stopping import going_on
    from refbench.metrics.registry import smallest_sides
    from refbench.runs.progress import Bar, steps
    from refbench.tasks.importing import import_suite

    smallest = smallest_sides()
    targets = found.targets and not no_targets

    def run(rules: Rules, overwrite: bool) -> Imported:
        with going_on(), Bar(lines=True) as bar:
            return import_suite(
                found.entries, out, rules, targets=targets, smallest=smallest, overwrite=overwrite, progress=steps(bar)
            )

    done = run(rules, overwrite)
    doubtful = sum(gap.kind == "inverted mask" for gap in done.gaps)
    if doubtful and not as_json and sys.stdin.isatty():
        turned = typer.confirm(
            f"{doubtful} of {done.found} masks are mostly white, and white means put right. Is black what is wrong?"
        )
        done = run(dataclasses.replace(rules, invert=turned), done.hash is not None)
    done = dataclasses.replace(done, gaps=(*found.gaps, *done.gaps), found=done.found + len(found.gaps))
    if as_json:
        show.json_out(done.to_json())
    else:
        show.imported(done)
    if done.hash is None:
        show.note(f"Expected samples that can be used, but all {done.found} have something amiss; nothing was written.")
        raise typer.Exit(2)
    raise typer.Exit(1 if done.samples < done.found else 0)
