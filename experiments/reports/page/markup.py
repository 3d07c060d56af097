"""HTML from strings: every text is escaped unless it is markup already."""

import re
from collections.abc import Iterable, Sequence
from html import escape


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def element(tag: str, *children: object, **attributes: object) -> Html:
    """``<tag attributes>children</tag>``; ``cls`` is the class, None and False leave an attribute out."""
    given = "".join(
        f' {"class" if name == "cls" else name.replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return Html(f"<{tag}{given}>{join(children)}</{tag}>")


def join(parts: Iterable[object]) -> Html:
    """Markup as it is, everything else escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(str(part)) for part in parts))


def link(address: str, text: object, **attributes: object) -> Html:
    """A link within the page or to a file beside it."""
    return element("a", text, href=address, **attributes)


def signed(text: str) -> str:
    """Figures with minus signs in place of hyphens; names that hold a hyphen stay."""
    return re.sub(r"(?<![\w.)-])-(?=\d)", "−", text)


def table(head: Sequence[object], rows: Iterable[Html], caption: object = "") -> Html:
    """A table that scrolls on its own where the page is narrow; ``rows`` are tr elements."""
    first = [element("th", cell, scope="col") for cell in head]
    body = element("tbody", *rows)
    named = [element("caption", caption)] if caption else []
    inner = element("table", *named, element("thead", element("tr", *first)), body)
    return element("div", inner, cls="scroll", tabindex="0")


def row(name: object, *cells: object, **attributes: object) -> Html:
    """A tr whose first cell names it."""
    columns = [element("td", cell) for cell in cells]
    return element("tr", element("th", name, scope="row"), *columns, **attributes)


def group(name: str, width: int) -> Html:
    """A tr that heads the rows below it."""
    return element("tr", element("th", name, colspan=width, scope="rowgroup"), cls="group")
