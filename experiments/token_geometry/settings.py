"""What a geometry report looks at: typed and torch-free, so that a typo is reported in under a second."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from manifold_lora.experiments.settings.run import Seed, Strict, YamlValue
from manifold_lora.manifolds.spec import ManifoldSpec

NAMED_DISTANCES = ("euclidean", "cosine", "angular")


class GeometrySettings(Strict):
    """Token geometry of a model over a corpus, with the null beside it."""

    model: str = ""
    """A folder or a Hugging Face name; only the embedding matrix is read, unless layers are asked for."""
    data: tuple[str, ...] = ()
    """Files (.json, .jsonl, .txt), names of sets in data_folder (gsm8k), or taxonomy | arithmetic."""
    data_folder: Path | None = None
    """Folder of the data schema (tests/, train/)."""
    distance: YamlValue = "euclidean"
    """euclidean, cosine, angular, or a geometry: lorentz, {name: lorentz, curvature: -0.5}."""
    base: Annotated[int, Field(ge=0)] | Literal["all"] = "all"
    """Base point of the Gromov product: a position in the prompt (the paper: 0), or all of them."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the distance matrices."""
    special_tokens: bool = True
    """Whether prompts carry the tokenizer's special tokens."""
    prompts: Annotated[int, Field(ge=1, le=10**7)] = 200
    """Measure at most this many prompts of every set, the first ones."""
    null_draws: Annotated[int, Field(ge=1, le=10**4)] = 1
    """Draws of each null per prompt."""
    vocabulary_sample: Annotated[int, Field(ge=4, le=10**4)] = 1500
    """Size of the random subsets of the vocabulary whose delta is measured exactly."""
    repeats: Annotated[int, Field(ge=1, le=10**4)] = 5
    """Number of such subsets."""
    quadruples: Annotated[int, Field(ge=1, le=10**7)] = 20_000
    """Independent random quadruples of the vocabulary, for the confidence statement."""
    reference_points: Annotated[int, Field(ge=4, le=10**4)] = 200
    """Points of the reference spaces."""
    layers: YamlValue = "none"
    """Hidden states to measure: none, all, or a list of layers; loads the whole model."""
    adapters: YamlValue = {}  # noqa: RUF012 (pydantic copies it)
    """Arm -> adapter folder: hidden states and adapter inputs of each, beside the base model's."""
    layer_prompts: Annotated[int, Field(ge=1, le=10**7)] = 24
    """Prompts of every set that hidden states are measured on."""
    rule: Literal["khrulkov", "log2"] = "khrulkov"
    """How delta suggests a curvature."""
    hierarchy: Literal["auto", "none", "wordnet", "taxonomy"] = "auto"
    """What norms are checked against; auto: the taxonomy for its own data, WordNet where installed."""
    wordnet: Path = Path("/usr/share/wordnet")
    """Folder of data.noun and index.noun."""
    seed: Seed = 0
    output: Path = Path("runs/geometry")
    """Folder of geometry.json, the CSV files, the figures and section.html."""
    cache: Path = Path(".cache/geometry")
    """Folder of results by content hash."""

    @field_validator("distance")
    @classmethod
    def _distance(cls, value: Any) -> Any:
        if value not in NAMED_DISTANCES:
            ManifoldSpec.parse(value)
        return value

    @field_validator("layers")
    @classmethod
    def _layers(cls, value: Any) -> Any:
        if value not in ("none", "all") and not (
            isinstance(value, list) and all(type(x) is int for x in value)
        ):
            raise ValueError("none, all, or a list of whole numbers")
        return value

    @field_validator("adapters")
    @classmethod
    def _adapters(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not all(isinstance(x, str) for x in value.values()):
            raise ValueError("a mapping of arm to adapter folder")
        return value
