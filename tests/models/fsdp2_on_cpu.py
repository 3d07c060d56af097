"""Run by torchrun in test_training_scripts: accelerate shards on accelerators alone; here the CPU is one."""

import runpy
import sys

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

if __name__ == "__main__":
    PartialState(cpu=True).distributed_type = DistributedType.MULTI_XPU
    sys.argv = sys.argv[1:]
    names = runpy.run_path(sys.argv[0], run_name="__main__")
    assert all(isinstance(parameter, DTensor) for parameter in names["model"].parameters())
