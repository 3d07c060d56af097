"""The documentation as tests read it: its pages with their includes, and the code blocks in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("docs/**/*.md")})
SHELL = ("", "sh", "bash")


def page_id(path: Path) -> str:
    """The path of a page as the name of a test."""
    return path.relative_to(ROOT).as_posix()


def page_text(path: Path) -> str:
    """A page as the site shows it, lines ``--8<-- "FILE"`` replaced by the file."""
    text = path.read_text(encoding="utf-8")
    return re.sub(
        r'^--8<-- "(.+)"$', lambda line: (ROOT / line[1]).read_text("utf-8").rstrip(), text, flags=re.M
    )


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages; "" is a block that names none."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page_text(path), flags=re.DOTALL | re.MULTILINE)
    return [block for language, block in fences if language in languages]


def commands(path: Path) -> list[str]:
    """The command lines of a page's shell blocks, continued lines joined."""
    lines = "".join(blocks(path, *SHELL)).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def code_spans(path: Path) -> list[str]:
    """What stands between single backticks outside the fenced blocks."""
    prose = re.sub(r"^```.*?^```$", "", page_text(path), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
