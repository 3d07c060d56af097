"""Sections of a Markdown file that several commands write, each its own."""

import re
from pathlib import Path

from manifold_lora.experiments.results.atomic import write_text

ADAPTERS = "# What an adapter costs, as a ratio to peft's LoRA"
LAYERS, GROUPS, MODELS = "## One layer", "## Three layers on one x", "## Whole models"
GPU, GEOMETRY = "## On a GPU", "# What geometry operations cost"


def section_of(text: str, heading: str) -> str:
    """A section from its heading to the next one of its level or a higher one; empty where there is none."""
    start = re.search(rf"^{re.escape(heading)}\b.*$", text, re.MULTILINE)
    if start is None:
        return ""
    level = len(heading) - len(heading.lstrip("#"))
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(text, start.end())
    return text[start.start() : end.start() if end else len(text)].rstrip() + "\n"


def replaced(text: str, heading: str, section: str) -> str:
    """The text with a section in place of the one with its heading, or at the end."""
    old = section_of(text, heading)
    if not old:
        return f"{text.rstrip()}\n\n{section}" if text.strip() else section
    before, _, after = text.partition(old.rstrip())
    return f"{before}{section.rstrip()}{after}"


def write_section(path: Path, heading: str, section: str) -> None:
    """Put a section into a file, in place of an older one; the rest of the file stays."""
    write_text(path, replaced(_read(path), heading, section))


def write_page(path: Path, head: str, order: list[str], fresh: dict[str, str]) -> None:
    """Write the part of a page that begins with ``head`` anew: fresh sections, and the old of those without.

    Args:
        head: its first line is the heading of the part, whose other sections go away.
        order: headings of the sections of the part.
        fresh: heading -> section.
    """
    old = _read(path)
    kept = [fresh.get(heading) or section_of(old, heading) for heading in order]
    part = "\n\n".join(text.rstrip() for text in (head, *kept) if text) + "\n"
    write_text(path, replaced(old, head.partition("\n")[0], part))


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
