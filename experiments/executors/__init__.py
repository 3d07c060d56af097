"""Where cells run: on this machine, on a Ray cluster, on SLURM; one interface."""
