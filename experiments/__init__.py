"""Experiments: the ablation runner, its tasks, statistics and reports."""

import logging

# peft imports bitsandbytes, which says at every start that an optional kernel of its own is not installed.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in str(record.msg)
)
