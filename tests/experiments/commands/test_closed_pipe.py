"""``manifold-lora VERB --help | head``: a reader that has gone ends a verb quietly."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from manifold_lora.experiments.cli import VERBS, main


def run_without_reader(*arguments):
    """The exit code and stderr of the command line, its standard output a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-W", "ignore", "-m", "manifold_lora.experiments.cli", *arguments]
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    finally:
        os.close(writer)
    return done.returncode, done.stderr


COMMANDS = [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_help_into_a_closed_pipe_ends_without_a_word(arguments):
    code, message = run_without_reader(*arguments)
    assert message == ""
    # Where they are the ones that write, rich ends the program itself, with 1, and argparse sees no error.
    assert code in (0, 1, 141)


def test_another_broken_pipe_is_no_closed_output(monkeypatch):
    """A worker's pipe that breaks is a fault, and stays one."""

    def breaks(argv):
        raise BrokenPipeError("a worker's")

    monkeypatch.setattr("manifold_lora.experiments.commands.new.main", breaks)
    with pytest.raises(BrokenPipeError, match="a worker's"):
        main(["new", "task", "mine"])


FULL = "standard output: No space left on device"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(
    ("arguments", "shell", "code", "says"),
    [
        (["--help"], "> /dev/full", 1, FULL),
        (["fetch"], "> /dev/full", 1, FULL),
        (["new"], "> /dev/full", 1, FULL),
        (["train", "--arm", "lroa"], "2> /dev/full", 1, ""),
        (["--help"], ">&-", 0, ""),
        (["train"], ">&-", 2, "standard output: got 'closed'"),
        (["train"], ">&- 2>&-", 2, ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_output_that_takes_nothing_is_one_line(arguments, shell, code, says, tmp_path):
    program = shlex.join([sys.executable, "-W", "ignore", "-m", "manifold_lora.experiments.cli", *arguments])
    done = subprocess.run(["sh", "-c", f"{program} {shell}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stderr.count("\n") <= 1
    assert os.listdir(tmp_path) == []
