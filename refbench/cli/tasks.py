"""``refbench tasks``: fetch the sources, build the suites, generate training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from refbench.cli import completion
from refbench.cli import options as o

app = typer.Typer(
    cls=o.Group, add_completion=False, rich_markup_mode=None, help="Build suites, and generate training data."
)

Sources = Annotated[
    Path | None, typer.Option("--sources", help="Folder of fetched sources; by default in refbench's cache.")
]


def _sources(given: Path | None) -> Path:
    from refbench.cache import cache_folder

    return given if given is not None else cache_folder() / "sources"


@app.command()
def fetch(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Where to; by default refbench's cache.")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Download and unpack the packages that the suites are made of (about 1 GB); what is there is kept."""
    from refbench.cli import show
    from refbench.cli.stopping import going_on
    from refbench.tasks.fetching import fetch as get

    lines = show.Lines(seconds=0)
    with going_on():
        path = get(_sources(folder), lambda name, done, total: lines.tick(f"fetch: {done} of {total} packages, {name}"))
    lines.close()
    if as_json:
        show.json_out({"sources": str(path)})
    else:
        show.line(path)


@app.command()
def build(
    sources: Sources = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for core/ and mini/ (by default their own), or of the val suite."),
    ] = None,
    split: Annotated[
        str, typer.Option("--split", help="test: core and mini; val: the suite that settings are chosen on.")
    ] = "test",
    variants: Annotated[
        int, typer.Option("--variants", help="With --split val: so many variations of each sample instead.", min=0)
    ] = 0,
    as_json: o.Json = False,
) -> None:
    """Build `core` and `mini` from the sources; exit code 1 where the hash is not that of the suite in use."""
    from refbench.cli import show
    from refbench.errors import RefbenchError, unknown_name
    from refbench.runs.progress import Bar, steps
    from refbench.tasks.build import build_core, build_validation
    from refbench.tasks.suite import load_suite

    if split not in ("test", "val"):
        raise unknown_name("split", split, ("test", "val"))
    if variants and split != "val":
        raise RefbenchError(f"Expected --variants with --split val only, but the split is {split}; leave it out.")
    if split == "val":
        if out is None:
            raise RefbenchError(
                "Expected --out FOLDER for the validation suite, but none was given; it is not embedded."
            )
        with Bar() as bar:
            found = build_validation(_sources(sources), out, steps(bar, "build"), variants=variants)
        show.json_out({"suite": str(out), "hash": found}) if as_json else show.line(f"{out}: {found}")
        return
    try:
        embedded = load_suite("core").hash
    except RefbenchError:
        embedded = None
    with Bar() as bar:
        found = build_core(_sources(sources), out, steps(bar, "build"))
    if as_json:
        show.json_out({"hash": found, "embedded": embedded, "same": found == embedded})
    else:
        show.line(f"core: {found}{'' if found == embedded else f' (before: {embedded})'}")
    raise typer.Exit(0 if embedded in (None, found) else 1)


@app.command()
def generate(
    out: Annotated[Path, typer.Option("--out", help="Folder of the suite; an unfinished one is gone on with.")],
    n: Annotated[int, typer.Option("--n", help="Samples, rounded up to whole shards of 64.")] = 30_000,
    size: Annotated[int, typer.Option("--size", help="Side of the pictures in px.")] = 256,
    seed: o.Seed = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes that generate.")] = 2,
    sources: Sources = None,
    assets: Annotated[Path | None, typer.Option("--assets", help="Prepared assets, instead of the sources.")] = None,
    as_json: o.Json = False,
) -> None:
    """Generate quadruplets from training assets, in any number, as a suite in sharded parquet."""
    from refbench.cli import show
    from refbench.cli.stopping import going_on
    from refbench.runs.progress import Bar, steps
    from refbench.tasks.generate import generate as make

    with going_on(), Bar(lines=True) as bar:
        found = make(
            n,
            out,
            size=size,
            seed=seed,
            workers=workers,
            progress=steps(bar),
            sources=_sources(sources) if sources is not None or _sources(None).is_dir() else None,
            assets=assets,
        )
    if as_json:
        show.json_out({"suite": str(out), "hash": found})
    else:
        show.line(f"{out}: {found}")


@app.command()
def assets(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.")],
    sources: Sources = None,
    split: Annotated[
        str, typer.Option("--split", help="train, or val for the pictures that watch a training.")
    ] = "train",
    budget_mb: Annotated[float, typer.Option("--budget-mb", help="Largest size of the file.")] = 15.5,
    as_json: o.Json = False,
) -> None:
    """Prepare the folder of training assets that generating and training read."""
    from refbench.cli import show
    from refbench.cli.stopping import going_on
    from refbench.errors import unknown_name
    from refbench.runs.progress import Bar, steps
    from refbench.tasks.training_assets import prepare_training_assets

    splits: dict[str, Literal["train", "val"]] = {"train": "train", "val": "val"}
    if split not in splits:
        raise unknown_name("split", split, splits)
    with going_on(), Bar(lines=True) as bar:
        path = prepare_training_assets(
            _sources(sources), out, split=splits[split], budget_mb=budget_mb, progress=steps(bar)
        )
    if as_json:
        show.json_out({"assets": str(path), "split": split, "bytes": path.stat().st_size})
    else:
        show.line(path)


@app.command()
def verify(
    suite: Annotated[
        str,
        typer.Argument(
            metavar="SUITE", help="core, mini, or a folder with suite.json.", autocompletion=completion.suites
        ),
    ] = "core",
    as_json: o.Json = False,
) -> None:
    """Decode every sample of a suite and compare it with the suite's content hash."""
    from refbench.cli import show
    from refbench.tasks.suite import load_suite

    found = load_suite(suite)
    found.verify()
    if as_json:
        show.json_out({"suite": found.name, "samples": len(found), "hash": found.hash})
    else:
        show.line(f"{found.name}: {len(found)} samples, hash {found.hash} as recorded")
