"""Where the work of a run is done: in processes of this machine, on a Ray cluster, or as Slurm jobs."""

from __future__ import annotations

from refbench.runs.executors.contract import Executor, Placement


def executor_of(placement: Placement) -> Executor:
    """The executor that is asked for.

    Raises:
        RefbenchError: its package is not installed, or an option is unknown.
    """
    if placement.executor == "ray":
        from refbench.runs.executors.ray import Ray

        return Ray(placement)
    if placement.executor == "slurm":
        from refbench.runs.executors.slurm import Slurm

        return Slurm(placement)
    from refbench.runs.executors.local import LocalProcesses

    return LocalProcesses(placement.workers)
