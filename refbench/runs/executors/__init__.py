"""Where the work of a run is done: in processes of this machine, on a Ray cluster, or as Slurm jobs."""
