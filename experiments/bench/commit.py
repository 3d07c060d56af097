"""The commit that a figure is from."""

import subprocess
from pathlib import Path


def commit(*files: str) -> str:
    """The commit that is checked out, ``with changes`` where a tracked file of these differs from it.

    Args:
        files: patterns of git; ``unknown`` is returned outside a repository, and without git.
    """
    try:
        name = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *files)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{name} with changes" if changed else name


def _git(*words: str) -> str:
    # The top: git reads patterns from the folder that it is called in.
    top = Path(__file__).resolve().parents[2]
    done = subprocess.run(["git", *words], cwd=top, capture_output=True, text=True, check=True)
    return done.stdout.strip()
