"""Worked examples that run from the command line."""
