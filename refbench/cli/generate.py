"""``refbench generate``: the first stage alone."""

from __future__ import annotations

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def generate(
    model: o.Model,
    suite: o.SuiteName = "core",
    tasks: o.Tasks = None,
    limit: o.Limit = None,
    seed: o.Seed = 0,
    device: o.Device = "auto",
    batch_size: o.BatchSize = 1,
    workers: o.Workers = 1,
    executor: o.Executor = "local",
    gpus_per_worker: o.GpusPerWorker = None,
    address: o.Address = None,
    executor_option: o.ExecutorOptions = None,
    out: o.Out = None,
    timeout: o.Timeout = 600.0,
    focus: o.Focus = False,
    paste_back: o.PasteBack = False,
    option: o.AdapterOptions = None,
    retry_failed: o.RetryFailed = False,
    overwrite: o.Overwrite = False,
    max_cost: o.MaxCost = None,
    passes: o.Passes = 1,
    as_json: o.Json = False,
) -> None:
    """Let one model answer a suite; `refbench measure RUN` scores the run later, here or elsewhere."""
    from refbench.cli import show
    from refbench.runs.api import generate_only

    folder, failed = generate_only(
        model,
        suite,
        tasks=o.names(tasks),
        limit=limit,
        seed=seed,
        device=o.device(device, executor),
        batch_size=batch_size,
        workers=workers,
        executor=executor,
        gpus_per_worker=gpus_per_worker,
        address=address,
        executor_options=o.executor_options(executor_option),
        out=out,
        timeout_s=timeout,
        options=o.adapter_options(option, focus=focus, paste_back=paste_back),
        retry_failed=retry_failed,
        overwrite=overwrite,
        max_cost_usd=max_cost,
        passes=passes,
        progress=True,
    )
    if as_json:
        show.json_out({"run": str(folder), "failed": {record.id: record.error for record in failed}})
    else:
        for record in failed:
            show.note(f"failed: {record.id}: {record.error}")
        show.line(folder)
    raise typer.Exit(1 if failed else 0)
