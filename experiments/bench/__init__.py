"""Benchmarks: accuracy of the geometry against an oracle, cost of the layer against LoRA."""
