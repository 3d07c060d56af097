"""Costs are CPU time on a CPU: what else the machine does is not in them."""

import time

import torch

from manifold_lora.experiments.training.clock import clock_of, now

CPU = torch.device("cpu")


def test_waiting_costs_nothing_and_computing_does() -> None:
    start = now(CPU)
    time.sleep(0.3)
    waited = now(CPU) - start
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert waited < 0.3
    assert now(CPU) - start >= 0.1


def test_an_accelerator_is_timed_on_the_wall() -> None:
    assert (clock_of(CPU), clock_of(torch.device("cuda"))) == ("cpu", "wall")
    start = now(torch.device("cuda"))
    time.sleep(0.05)
    assert now(torch.device("cuda")) - start >= 0.05
