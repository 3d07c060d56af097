"""The executors by name; importing this module imports none of them."""

from typing import Any

from manifold_lora.registry import Registry

# A part is an Executor with ``from_settings(settings: AblationSettings)``.
# needs: the package without which it does not work, and the extra that brings it.
EXECUTORS: Registry[Any] = Registry("executor", "manifold_lora.executors")
for _name, _part, _facts in (
    ("local", "local:LocalExecutor", {}),
    ("ray", "ray_cluster:RayExecutor", {"needs": ("ray", "ray")}),
    ("slurm", "slurm:SlurmExecutor", {"needs": ("submitit", "slurm")}),
):
    EXECUTORS.declare(_name, f"manifold_lora.experiments.executors.{_part}", **_facts)
