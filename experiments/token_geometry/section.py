"""The geometry section of the HTML report: a fragment with its figures inside and no outside reference."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

_TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)


def html_section(record: Mapping[str, Any], figures: Mapping[str, bytes]) -> str:
    """A ``<section>`` to be put into a page; every value is escaped, every image inline."""
    images = {name: b64encode(image).decode() for name, image in figures.items()}
    return _TEMPLATES.get_template("section.html.j2").render(record, figures=images) + "\n"
