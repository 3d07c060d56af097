"""A two-node Ray cluster on this machine that loses a node while a sweep runs on it: ``FOLDER --cells N``."""

import os
import sys
import threading
import time
from pathlib import Path

import fault_jobs
from fault_jobs import drive, notes, sweep_of

from manifold_lora.experiments.executors.base import Limits
from manifold_lora.experiments.executors.ray_cluster import RayExecutor


def main(folder, cells):
    executor = RayExecutor(4, Limits(timeout=60), folder / "logs", address="auto", preload=("fault_jobs",))
    import ray
    from ray.cluster_utils import Cluster

    os.environ["RAY_AUTH_MODE"] = "disabled"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    node = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")

    def remove():
        while len(notes(folder, "end")) < cells // 4:
            time.sleep(0.05)
        fault_jobs.note(folder, "removed", "node")
        cluster.remove_node(node, allow_graceful=False)

    remover = threading.Thread(target=remove)
    remover.start()
    statuses = drive(folder, sweep_of(folder, cells, 0.5), executor)
    remover.join()
    ray.shutdown()
    cluster.shutdown()
    return 0 if set(statuses.values()) == {"ok"} and len(statuses) == cells else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
