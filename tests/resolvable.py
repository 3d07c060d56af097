"""Prove that what the Makefile installs can be had on every Python, by the registry's word alone.

For each Python pip resolves the project's requirements under constraints.txt without installing anything;
find-links, file indexes and constraints that this machine has configured do not count. What must hold: every
package is pinned, and every pin needed; every requirement that applies on that Python is met (pip itself
evaluates markers for the Python that it runs on); requirements.lock holds the hash of every file chosen but
those of torch's build. Where the registry cannot be reached, that is said, and nothing is proven.
"""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from ast import literal_eval
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
EXTRAS = ("dev", "torchao")
# What torch's own build brings along; triton and torchao are installed without hashes by `make test-extras`.
BUILD = ("torch", "triton", "torchao", "cuda-", "nvidia-")
SETTINGS = ("index-url", "cert", "client-cert", "proxy", "timeout", "trusted-host")

Item = dict[str, Any]


def main() -> int:
    """Print one line a Python; 0 if all hold or the registry cannot be reached, 1 otherwise."""
    environment = registry_only()
    reached = pip(environment, "index", "versions", "pip", "--retries", "1", "--timeout", "20")
    if reached.returncode:
        print(f"resolvable: skipped, the registry cannot be reached: {last_line(reached.stderr)}")
        return 0
    with ThreadPoolExecutor() as pool:
        reports = list(pool.map(lambda python: resolve(python, environment), PYTHONS))
    faults = [
        fault for python, report in zip(PYTHONS, reports, strict=True) for fault in check(python, report)
    ]
    faults += unneeded(reports) + lock_faults()
    for fault in faults:
        print(f"resolvable: {fault}")
    return int(bool(faults))


def registry_only() -> dict[str, str]:
    """This process's environment with pip's way to the registry, and no other setting of pip's."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    # The environment's settings come last: pip lets them win over its files.
    for line in sorted(listed.stdout.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        setting = key.rpartition(".")[2]
        if setting.removeprefix("default-") in SETTINGS and "file:" not in value:
            kept[f"PIP_{setting.upper().replace('-', '_')}"] = str(literal_eval(value))
    return kept | {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def pip(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pip", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "pip said nothing")


def requirements() -> list[str]:
    """What the project and its extras name, extras of its own resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found, waiting = list(project["dependencies"]), list(EXTRAS)
    while waiting:
        for line in project["optional-dependencies"][waiting.pop()]:
            own = Requirement(line)
            waiting += own.extras if own.name == project["name"] else ()
            found += [line] if own.name != project["name"] else []
    return found


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = (line.partition("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(package): version for package, _, version in pinned}


def resolve(python: str, environment: dict[str, str]) -> list[Item] | str:
    """What pip would install on ``python``, or its last word where it finds no such set."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        wanted = [
            "--python-version",
            python,
            "--only-binary=:all:",
            "--target",
            folder,
            "--report",
            str(report),
        ]
        # fast-deps reads the metadata of a wheel that the registry offers none for without loading the wheel.
        quick = ["--quiet", "--dry-run", "--ignore-installed", "--use-feature=fast-deps"]
        files = ["-c", str(ROOT / "constraints.txt"), "--report", str(report)]
        done = pip(environment, "install", *quick, *wanted, *files, *requirements())
        if done.returncode:
            return last_line(done.stderr)
        return list(json.loads(report.read_text())["install"])


def check(python: str, report: list[Item] | str) -> list[str]:
    """What is wrong with one Python's set; prints its line."""
    if isinstance(report, str):
        return [f"Python {python}: {report}"]
    chosen = {name(item): item["metadata"]["version"] for item in report}
    build = [package for package in chosen if package.startswith(BUILD)]
    its = f"{len(build)} of them torch {chosen['torch']} and its build's"
    print(f"Python {python}: {len(chosen)} packages, {its}")
    lock = (ROOT / "requirements.lock").read_text()
    unhashed = [
        name(item)
        for item in report
        if name(item) not in build and item["download_info"]["archive_info"]["hashes"]["sha256"] not in lock
    ]
    unpinned = [package for package in chosen.keys() - pins().keys() if package not in build]
    return [
        *(f"Python {python}: {package} is not pinned by constraints.txt" for package in unpinned),
        *(f"Python {python}: the file of {package} is not in requirements.lock" for package in unhashed),
        *(f"Python {python}: {line}" for line in unmet(python, report, chosen)),
    ]


def unmet(python: str, report: list[Item], chosen: dict[str, str]) -> list[str]:
    """Requirements of the set that apply on ``python`` and that it does not meet."""
    found = []
    place = {"python_version": python, "python_full_version": f"{python}.0"}
    for item in report:
        extras = ["", *item.get("requested_extras", [])]
        for line in item["metadata"].get("requires_dist", []):
            wanted = Requirement(line)
            applies = not wanted.marker or any(wanted.marker.evaluate({**place, "extra": e}) for e in extras)
            version = chosen.get(canonicalize_name(wanted.name), "nothing")
            if applies and (version == "nothing" or not wanted.specifier.contains(version, prereleases=True)):
                found.append(f"{name(item)} needs {line}, got {version}")
    return found


def unneeded(reports: list[list[Item] | str]) -> list[str]:
    """Pins that no Python needs; none are named where one Python's set is not known."""
    found = {name(item) for report in reports if isinstance(report, list) for item in report}
    idle = pins().keys() - found - {"pip"} if all(isinstance(report, list) for report in reports) else ()
    return [f"constraints.txt: nothing needs {pin}" for pin in sorted(idle)]


def lock_faults() -> list[str]:
    """Where requirements.lock and constraints.txt name different versions."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {line.split(" ")[0] for line in lines if "==" in line and not line.startswith(" ")}
    wanted = {f"{package}=={version}" for package, version in pins().items() if not package.startswith(BUILD)}
    return [
        f"requirements.lock: {line} is there or in constraints.txt alone" for line in sorted(locked ^ wanted)
    ]


def name(item: Item) -> str:
    return canonicalize_name(item["metadata"]["name"])


if __name__ == "__main__":
    sys.exit(main())
