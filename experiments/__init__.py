"""Experiments: the ablation runner, its tasks, statistics and reports."""
