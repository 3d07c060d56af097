"""Fail unless a built site loads nothing from another host: no script, style, image or font."""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}
STYLES = {"stylesheet", "icon", "preload", "preconnect", "modulepreload", "prefetch", "dns-prefetch"}
FOREIGN = re.compile(r"(https?:)?//")


class Loads(HTMLParser):
    """The addresses of other hosts that a page loads when it is opened; links to click on are none."""

    def __init__(self) -> None:
        super().__init__()
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        address = given.get(LOADING.get(tag, ""), "")
        if tag == "link" and STYLES & set(given.get("rel", "").split()):
            address = given.get("href", "")
        if FOREIGN.match(address):
            self.foreign.append(address)


def foreign_loads(site: Path) -> list[str]:
    """``page: address`` of everything that the site would fetch from another host."""
    found = []
    for page in sorted(site.rglob("*.html")):
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        found += [f"{page.relative_to(site)}: {address}" for address in loads.foreign]
    for style in sorted(site.rglob("*.css")):
        text = style.read_text(encoding="utf-8")
        addresses = re.findall(r"""(?:url\(|@import )["']?((?:https?:)?//[^"')]+)""", text)
        found += [f"{style.relative_to(site)}: {address}" for address in addresses]
    return found


def main(site: str) -> int:
    """Print what the site would fetch; 0 if nothing."""
    pages, found = len(list(Path(site).rglob("*.html"))), foreign_loads(Path(site))
    print("\n".join(found) or f"{site}: {pages} pages, nothing from another host")
    return int(bool(found) or not pages)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
