"""WordNet's noun tree from the database files, as Debian's wordnet-base installs them."""

from collections import deque
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.token_geometry.hierarchy import Hierarchy

INSTALLED = Path("/usr/share/wordnet")


def read_nouns(folder: Path = INSTALLED) -> Hierarchy:
    """Single-word nouns under ``entity``, each by its most frequent sense.

    Depth is the shortest hypernym chain. Synsets stand in the tree as nameless steps, so depths are
    WordNet's own.

    Raises ManifoldLoraError where data.noun or index.noun is missing or is not a WordNet file.
    Source: wndb(5WN) of WordNet 3.0.
    """
    for name in ("data.noun", "index.noun"):
        if not (folder / name).is_file():
            hint = "apt install wordnet-base, or pass the folder of the database files"
            raise ManifoldLoraError(
                "WordNet folder", str(folder), "a folder with data.noun and index.noun", hint
            )
    try:
        above = _parents(_hypernyms(folder / "data.noun"))
        senses = _first_senses(folder / "index.noun")
    except (ValueError, IndexError) as error:
        raise ManifoldLoraError(
            "WordNet files", str(folder), "the format of wndb(5WN)", str(error)
        ) from error
    parents: dict[str, str | None] = {f"#{synset}": f"#{up}" if up else None for synset, up in above.items()}
    # A word hangs at the place of its synset, one step below the synset's parent.
    words = {word: synset for word, synset in senses.items() if synset in above}
    return Hierarchy(
        "WordNet nouns", parents | {word: parents[f"#{synset}"] for word, synset in words.items()}
    )


def _hypernyms(path: Path) -> dict[str, list[str]]:
    """Synset offset -> offsets of its hypernyms (@ and @i)."""
    found: dict[str, list[str]] = {}
    for fields in _records(path):
        words = int(fields[3], 16)
        at = 4 + 2 * words
        pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
        found[fields[0]] = [target for symbol, target, _, _ in pointers if symbol in ("@", "@i")]
    return found


def _parents(hypernyms: dict[str, list[str]]) -> dict[str, str | None]:
    """The parent of every synset on a shortest chain to a root without hypernyms."""
    below: dict[str, list[str]] = {}
    for synset, ups in hypernyms.items():
        for up in ups:
            below.setdefault(up, []).append(synset)
    roots = [synset for synset, ups in hypernyms.items() if not ups and synset in below]
    largest = max(roots, key=lambda root: _size(root, below))
    parents: dict[str, str | None] = {largest: None}
    queue = deque([largest])
    while queue:
        node = queue.popleft()
        for child in below.get(node, ()):
            if child not in parents:
                parents[child] = node
                queue.append(child)
    return parents


def _size(root: str, below: dict[str, list[str]]) -> int:
    seen, queue = {root}, [root]
    while queue:
        new = [child for child in below.get(queue.pop(), ()) if child not in seen]
        seen.update(new)
        queue += new
    return len(seen)


def _first_senses(path: Path) -> dict[str, str]:
    """Lemma -> offset of its most frequent sense; compounds are left out."""
    return {fields[0]: fields[-int(fields[2])] for fields in _records(path) if fields[0].isalpha()}


def _records(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    # The licence at the top is indented.
    return [line.split(" | ")[0].split() for line in lines if line and not line.startswith("  ")]
