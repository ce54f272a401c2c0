"""``refbench eval``: evaluate models on a suite."""

from __future__ import annotations

import typer

from refbench.cli import options as o

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def evaluate(
    model: o.Models,
    suite: o.SuiteName = "core",
    tasks: o.Tasks = None,
    limit: o.Limit = None,
    seed: o.Seed = 0,
    seeds: o.Seeds = 1,
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
    metrics: o.Metrics = None,
    protocol: o.Protocol = None,
    judge: o.Judge = None,
    judge_model: o.JudgeModel = None,
    judge_votes: o.JudgeVotes = 3,
    log: o.Log = None,
    as_json: o.Json = False,
) -> None:
    """Evaluate models on a suite: generate, measure, aggregate.

    Stop it and start it again as you like: nothing that is done is done again. With several models, --out is the
    folder that holds one run folder for each. With several passes each is a run of its own, beside the last
    one's, and a table shows what they do. --json prints the result (a list for several models): recovery points,
    0 for a trivial answer and 100 for the truth, with 95 % intervals; null where nothing can be scored
    (`withheld` says what lacks a metric that scores).
    """
    from refbench.cli import show
    from refbench.cli.side_metrics import SideMetrics
    from refbench.runs.api import evaluate_all

    device = o.device(device, executor)
    beside = SideMetrics(protocol, judge, judge_model, judge_votes, suite, device)
    found = evaluate_all(
        o.names(model) or [],
        suite,
        tasks=o.names(tasks),
        limit=limit,
        seed=seed,
        seeds=seeds,
        device=device,
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
        metrics=o.names(metrics),
        progress=True,
        log=log,
    )
    for one in found:
        if not one.fresh:
            show.note(f"Nothing to do: {one.folder} is finished.")
    extra = [beside.measured(one.folder) for one in found]
    if as_json:
        rows = [{**one.to_json(), **more} for one, more in zip(found, extra, strict=True)]
        show.json_out(rows if len(rows) > 1 else rows[0])
    else:
        for one in found:
            show.result(one)
            if one.passes:
                show.passes(one.passes)
            if one.seeds:
                show.seeds(one.seeds)
        beside.show()
    raise typer.Exit(1 if any(one.failed for one in found) else 0)
