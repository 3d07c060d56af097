"""Bad settings given to the command line one by one: what it says, how long it takes, what it imports."""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SLOW = re.compile(r"[\d.]+ s:")


@dataclass(frozen=True)
class Case:
    arguments: list[str]
    message: tuple[str, ...]


# Imports are paid for once and added to every case: a process is the first command plus its own work.
DRIVER = """
import io, json, os, resource, sys, time, contextlib

def cpu(who):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime

def run(arguments):
    from manifold_lora.experiments.cli import main
    reported = io.StringIO()
    with contextlib.redirect_stderr(reported), contextlib.redirect_stdout(reported):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    return code, reported.getvalue()

run(["ablate", "no-such-file.yaml"])
run(["ablate", "--arm", "dircet"])
start = cpu(resource.RUSAGE_SELF)
for arguments in json.loads(sys.argv[1]):
    read, write = os.pipe()
    if not (child := os.fork()):
        before = cpu(resource.RUSAGE_SELF)
        code, reported = run(arguments)
        seconds = start + cpu(resource.RUSAGE_SELF) - before
        heavy = [name for name in ("torch", "transformers", "peft", "datasets") if name in sys.modules]
        with os.fdopen(write, "w") as file:
            json.dump([code, reported, seconds, heavy], file)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        print(file.read() or "null", flush=True)
    os.waitpid(child, 0)
"""


def fault(case: Case, result: list | None) -> str:
    """What is wrong with how a case was refused; "" where nothing is."""
    if result is None:
        return "died"
    code, message, seconds, heavy = result
    line = " ".join(message.split())
    missing = [words for words in case.message if words not in line]
    problems = [f"exit {code}"] * (code != 2) + [f"no {words!r}" for words in missing]
    problems += [f"{seconds:.2f} s"] * (seconds > 1) + [f"{name} imported" for name in heavy]
    problems += ["several lines"] * (len(message.splitlines()) > 1)
    problems += ["traceback"] * ("Traceback" in message) + ["long"] * (len(message) > 3000)
    return f"{', '.join(problems)}: {line[:300]}" if problems else ""


def faults_of(cases: dict[str, Case], folder: Path) -> dict[str, str]:
    """What is wrong by case; a case that was only slow is asked again, for a neighbour slows any process."""
    faults = {name: fault(cases[name], result) for name, result in run_all(cases, folder).items()}
    for _ in range(5):
        slow = {name: cases[name] for name, message in faults.items() if SLOW.match(message)}
        results = run_all(slow, folder) if slow else {}
        faults |= {name: fault(slow[name], result) for name, result in results.items()}
    return {name: message for name, message in faults.items() if message}


def run_all(cases: dict[str, Case], folder: Path) -> dict[str, list | None]:
    arguments = json.dumps([case.arguments for case in cases.values()])
    command = [sys.executable, "-c", DRIVER, arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=120)
    lines = done.stdout.splitlines()
    assert len(lines) == len(cases), done.stderr[-2000:]
    return dict(zip(cases, map(json.loads, lines), strict=True))
