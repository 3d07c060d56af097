"""What a positive control is made of: typed and torch-free."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.run import Count, Positive, Seed, Strict

# They lie in memory, one byte each, for every arm.
_MOST_ANSWERS = 10**8
TruthName = Literal["linear", "saturating", "power", "lorentz", "yours", "argmax"]
# A truth draws its studies by its place here: a new one comes last.
TRUTHS: dict[TruthName, str] = {
    "linear": "LoRA's update",
    "saturating": "a gain that falls as abs(B A x) grows, whatever the token's norm",
    "power": "the same times a power of the token's norm",
    "lorentz": "HypLoRA's update at the reference radius",
    "yours": "HypLoRA's update at your radius, seeds and items",
    "argmax": "LoRA's update, labelled by the likeliest class instead of a draw",
}
Seeds = Annotated[int, Field(ge=2, le=1000)]
Items = Annotated[int, Field(ge=2, le=10**6)]


class PlantedSettings(Strict):
    """Studies of one layer whose truth is known, read by the rule of the reports.

    Lengths are in units of the median norm of the tokens.
    """

    R: Positive = 1.0
    """Your radius of curvature: sqrt(K) of the paper, 1/sqrt(abs(kappa)) of a layer with calibrated s."""
    seeds: Seeds = 10
    """Your training seeds."""
    items: Items = 1000
    """Your test items."""
    sigma: Annotated[float, Field(ge=0, le=2)] = 0.6
    """Spread of the tokens' log norms, in all truths; language models have 0.2 to 0.8."""
    rho: Positive = 0.1
    """Mean abs(B A x)/abs(x) of the teacher, in all truths but saturating and power."""
    saturated_rho: Positive = 1.0
    """The same in these two, where gains have to saturate."""
    sharpness: Positive = 6.0
    """Root mean square of the teacher's logits, in all truths but argmax: how sure its labels are."""
    argmax_sharpness: Positive = 1.0
    """The same where labels are surer than these logits, as if they came from a larger model."""
    max_angle: Positive = 3.0
    """Angle limit of the layer."""
    truths: tuple[TruthName, ...] = tuple(TRUTHS)
    """Which truths to plant."""
    studies: Annotated[int, Field(ge=1, le=10**4)] = 20
    """Studies of each truth."""
    reference_R: Positive = 0.7
    """Radius of all truths but yours."""
    reference_seeds: Seeds = 10
    reference_items: Items = 1000
    rates: tuple[Positive, ...] = (0.003, 0.01, 0.03)
    """Learning rates of Adam; each arm's is chosen on validation."""
    steps: Count = 400
    batch_size: Count = 64
    train_items: Items = 4096
    validation_items: Items = 500
    jobs: Annotated[int, Field(ge=1, le=256)] = 2
    """Processes."""
    seed: Seed = 0
    output: Path = Path("runs/positive-control")
    """Folder of studies.csv and of every study's answers."""

    @field_validator("rates", "truths")
    @classmethod
    def _each_once(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        if not values or len(set(values)) < len(values):
            raise ValueError("one or more, each once")
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        most = max(self.seeds * self.items, self.reference_seeds * self.reference_items)
        if (answers := len(self.rates) * most) > _MOST_ANSWERS:
            got = f"{answers} answers of an arm (rates x seeds x items)"
            raise ManifoldLoraError("size of a study", got, f"at most {_MOST_ANSWERS}")
        return self
