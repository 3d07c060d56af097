"""What a run and an ablation are made of: typed, frozen, torch-free; the YAML tree is the object tree."""

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from manifold_lora.experiments.settings.methods import check_method
from manifold_lora.experiments.settings.yaml_file import parse_yaml

# The task of a person's own file, and the files it reads.
EMBEDDED = "embedded"
# Which text retention is measured on, where no file is named.
AUTO, NONE = "auto", "none"
OWN, OWN_SUFFIXES = "own", (".jsonl", ".json", ".csv")


def _flag_text(value: Any) -> list[str]:
    return [yaml.safe_dump(value, default_flow_style=True, width=10_000).strip().removesuffix("\n...")]


# A field whose value has several shapes is written on the command line as YAML: --grid '{arm: [lora]}'.
YamlValue = Annotated[
    Any,
    PrimitiveConstructorSpec(
        nargs=1,
        metavar="YAML",
        instance_from_str=lambda args: parse_yaml(args[0], "command line"),
        is_instance=lambda _: True,
        str_from_instance=_flag_text,
    ),
]


def _mapping(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("a mapping")
    return value


YamlMapping = Annotated[YamlValue, AfterValidator(_mapping)]

# Sizes beyond these are typing errors; what is smaller may still be too much for a machine.
Count = Annotated[int, Field(ge=1, le=10**7)]
CountOrNone = Annotated[int, Field(ge=0, le=10**7)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
# Larger ones overflow float32 in the optimiser.
Positive = Annotated[float, Field(gt=0, le=3e38)]


class Strict(BaseModel):
    """A frozen block of settings that knows all its keys.

    Refuses NaN and infinity, truth values for numbers and numbers for truth values, empty text and control
    characters.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and kind not in (bool, Any):
            raise ValueError("no truth value")
        if kind is bool and not isinstance(value, bool):
            raise ValueError("true or false")
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            check_text(value)
        return value


def check_text(value: Any) -> None:
    """Raise ValueError for text, at any depth of plain data, that is empty or holds a control character."""
    if isinstance(value, str) and (not value or not value.isprintable()):
        raise ValueError("printable text" if value else "some text")
    if isinstance(value, dict):
        check_text([*value, *value.values()])
    elif isinstance(value, list | tuple):
        for inner in value:
            check_text(inner)


class TaskSettings(Strict):
    """Which problems are trained on and tested on."""

    name: Annotated[str, arg(aliases=("--task",))] = "taxonomy"
    """taxonomy, arithmetic (both generated), word_problems (needs data), wordnet and wordnet_flat, its twin
    without a hierarchy (for a pre-trained model), or a benchmark: gsm8k, aqua, mawps, svamp, addsub,
    multiarith, singleeq, math10k, boolq, piqa, social_i_qa, hellaswag, winogrande, arc_easy, arc_challenge,
    openbookqa, commonsense; or own: examples of your file, which --data FILE alone means."""
    data: Annotated[Path | None, arg(aliases=("--data",))] = None
    """Folder of the data schema (train/, tests/, commonsense/); without one, benchmarks come from the hub.
    For wordnet, the folder of data.noun and index.noun; without one, where a package installed them. Or your
    own .jsonl, .json or .csv file (docs/own-data.md)."""
    prompt_field: str | None = None
    """Field of an own file with the question; empty: messages, prompt, question or instruction."""
    target_field: str | None = None
    """Field of an own file with the text to learn; empty: completion, output or response, else the answer."""
    answer_field: str | None = None
    """Field of an own file with the answer that outputs are judged by; empty: answer, else the target."""
    choices_field: str | None = None
    """Field of an own file with the list that an answer is chosen from; empty: choices, if a row has it."""
    judge: Literal["auto", "number", "choice", "exact"] = "auto"
    """What makes an answer to an own file right: the same number, choice or text; auto: as it allows."""
    held_out: Annotated[float, Field(gt=0, lt=0.5)] = 0.1
    """Share of an own file's questions for validation, and the same for tests unless `tests` is a file."""
    train: YamlValue = None
    """Training set or sets of a benchmark in place of its own: math10k, gsm8k, aqua, mawps, boolq, ..."""
    tests: YamlValue = None
    """Test set or sets of a benchmark in place of its own; the test file or files of an own file."""
    leaks: Literal["refuse", "drop", "allow"] = "refuse"
    """Training rows of a benchmark that are in one of its tests: refuse to run, drop or allow (and count)."""
    template: Literal["plain", "alpaca", "chat"] = "plain"
    """How text prompts are written: Question/Answer, Alpaca's frame, or the model's own chat template."""
    completion_only: bool = True
    """Whether the loss counts the answer alone, or the prompt as well."""
    style: Literal["auto", "equation", "text"] = "auto"
    """equation: numbers mapped to N0, N1...; text: prompts by template; auto: equation where the task has
    some and template is plain, else text."""
    seed: Seed = 0
    """Seed of the generated problems and of the split."""
    limit: Count | None = None
    """Keep at most this many examples of train, validation and each test set; evaluation.limit cuts only what
    is answered."""
    labels: Path | None = None
    """A trained model's answers that take the place of the right ones: written by ablate --null distilled."""
    max_bad_records: CountOrNone = 0
    """Malformed rows to leave out and count before a file is refused."""

    @model_validator(mode="before")
    @classmethod
    def _own(cls, data: Any) -> Any:
        if (
            isinstance(data, dict)
            and data.get("name", "taxonomy") == "taxonomy"
            and _is_file(data.get("data"))
        ):
            return {**data, "name": OWN}
        return data


def _is_file(data: Any) -> bool:
    if not isinstance(data, str | Path):
        return False
    return Path(data).suffix in OWN_SUFFIXES and not Path(data).is_dir()


class ModelSettings(Strict):
    """Which base model is adapted."""

    name: Annotated[str, arg(aliases=("--model",))] = "embedded"
    """embedded (a tiny Llama pre-trained here), a folder, a hub name, FILE.gguf, or what manifold-lora fetch
    has fetched: smollm2, gemma3."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Weights of the base; adapter geometry is float32 whatever this says."""
    quantization: Literal["none", "4bit", "8bit"] = "none"
    """Weights of the base's linear layers in 4 (nf4) or 8 bits, by bitsandbytes (extra)."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU if there is one (under torchrun, that of the process), else the CPU."""


class AdapterSettings(Strict):
    """Which adapter is put on the base; `arm` overrides these fields."""

    method: Annotated[str, AfterValidator(check_method)] = "manifold_lora"
    """manifold_lora; PEFT's lora, dora, adalora or prefix; gain_matched_lora, LoRA with each layer's alpha
    times the median gain c of `gain_from`; series or parallel, a bottleneck of `rank` hidden units after or
    beside each target; or any other method of PEFT by its type (peft.oft, peft.vera) with its `options`."""
    options: YamlValue = {}
    """Fields of the config of a method peft.NAME, such as {r: 8}; rank, alpha and dropout are unread."""
    gain_from: str | None = None
    """Arm whose measured gain a gain_matched_lora copies (same learning rate, same seed)."""
    rank: Annotated[int, Field(ge=1, le=2**16)] = 4
    """Rank r of A (r x n) and B (m x r); AdaLoRA's mean rank; the hidden units of a bottleneck."""
    alpha: Positive = 8.0
    """Scaling is alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout on the adapter's input."""
    lora_plus_ratio: Positive = 1.0
    """Learning rate of B over that of A (LoRA+ proposes 16)."""
    lora_bias: bool = False
    """Whether B of method lora gets a bias: the control of boost, whose time column adds nearly the same
    vector to every token."""
    non_linearity: Literal["tanh", "relu", "gelu", "silu"] = "tanh"
    """What a bottleneck has between its two layers."""
    virtual_tokens: Annotated[int, Field(ge=1, le=2**16)] = 8
    """Length of the prefix of prefix tuning."""
    target_modules: YamlValue = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Module names to adapt, or all-linear."""
    manifold: YamlValue = "lorentz"
    """Geometry by name, or a mapping for products."""
    curvature: YamlValue = None
    """Signed kappa, {mode: fixed | learned | free, kappa: ...} (shared: true for one in all layers),
    {mode: token, kappa: ...} (kappa of each token from its norm), {mode: data} (kappa of each module from the
    delta of training prompts; strength: 0 to 1 away from kappa), {mode: dose, share: 0.1} (kappa of each
    module where this share of the update is reproduced by no constant gain; out_of_reach: stop, or nearest
    for the largest dose that a module's tokens allow), or empty for the geometry's default."""
    manifold_pattern: YamlValue = {}
    """Module pattern -> geometry that replaces `manifold` there; the first match counts."""
    transform: YamlValue = "direct"
    """tangent, direct (space-only) or boost (time and space); the controls norm_blind, power and
    frozen_boost, with options as in {name: power, learned: true}."""
    norm_scaling: YamlValue = "learned"
    """identity, fixed, learned, released or unit; {mode: learned, shared: true} for one s in all layers."""
    token_norms: str = "own"
    """own, or shuffled: the control that gives each token the norm of another one."""
    max_angle: Annotated[float, Field(gt=0)] | Literal["inf"] = 3.0
    """Largest angle a = length/R at which a token's gain is computed; inf sets no limit."""
    weight_manifold: YamlValue = None
    """Where A and B of manifold_lora live: stiefel, oblique, free (three factors, the control) or a mapping
    {A: stiefel, B: stiefel, core: full | diagonal | none, step: retraction | landing}; empty: B A itself."""
    calibration_rows: CountOrNone = 8
    """Training rows whose median length starts the norm scaling of a module; 0: it starts at sqrt(width)."""


class TrainSettings(Strict):
    """How the adapter is trained."""

    learning_rate: Positive = 1e-2
    steps: Count = 200
    epochs: Annotated[float, Field(gt=0, le=1e5)] | None = None
    """Passes over the training rows that are not too long, in place of steps."""
    batch_size: Count = 32
    """Rows of one pass through the model."""
    gradient_accumulation: Count = 1
    """Passes whose gradients make one step, of so many times batch_size rows: large steps in less memory."""
    grouping: Literal["length", "none"] = "length"
    """Who shares a batch: examples of like length, which pads little, or chance alone."""
    seed: Seed = 0
    """Seed of initialisation, data order and dropout; generation is greedy and draws nothing."""
    weight_decay: Annotated[float, Field(ge=0, le=1e30)] = 0.0
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.05
    max_length: Annotated[int, Field(ge=8, le=10**7)] = 512
    """Tokens of the longest training row, answer included. Longer rows are dropped, not cut, and reported;
    where that is more than half of them, the run is refused."""
    geometry_lr_factor: Positive = 1.0
    """Learning-rate factor of curvature and norm-scale parameters, which never decay."""
    max_grad_norm: Positive = 1.0
    """Longest gradient; longer ones are scaled down to it."""
    checkpoint_every: CountOrNone = 0
    """Write a resumable checkpoint every so many steps, and at the last one; 0 writes none."""
    early_stopping: CountOrNone = 0
    """Looks at validation data in a row without a better one after which training stops; the weights of the
    best look are kept. 0 never looks and keeps the last weights."""
    validate_by: Literal["loss", "accuracy"] = "loss"
    """What early stopping goes by: the loss of validation targets, or the accuracy of generated answers."""
    validate_every: Count = 50
    """Steps from look to look; the last step is looked at too."""
    report_to: tuple[Literal["tensorboard", "trackio"], ...] = ()
    """Where transformers sends every step's figures (extras); a JSON line a step is written anyway."""


class EvaluationSettings(Strict):
    """How answers are generated and scored: without sampling."""

    engine: Literal["transformers", "vllm"] = "transformers"
    """What writes the answers: transformers, or vllm (extra), which gives the same ones in float32 and serves
    LoRA and the curved arms that docs/serving.md lists. Likelihoods are transformers' in both."""
    batch_size: Count = 128
    max_new_tokens: Count | None = None
    """Tokens after which an answer is cut, and then counted as truncated; empty: the longest gold text and a
    quarter. A limit that would cut gold texts is refused (preflight)."""
    num_beams: Annotated[int, Field(ge=1, le=1024)] = 1
    """Continuations kept at each step (beam search); 1 is greedy."""
    limit: Count | None = None
    """Answer at most this many items of validation and each test set; training keeps all its rows."""
    nll: bool = True
    """Store the negative log-likelihood of each item's gold text beside right or wrong."""
    retention: str = AUTO
    """Plain text whose likelihood before and after adaptation says what the base forgets: auto (what the
    embedded base has read; for other models, prose that comes with the package), none, or a text file (its
    first 64 passages, a blank line between them)."""


class RunSettings(Strict):
    """One cell: one adapter trained and evaluated once."""

    arm: str = "custom"
    """Name of the arm; its fields override the adapter block (custom: none)."""
    task: TaskSettings = TaskSettings()
    model: ModelSettings = ModelSettings()
    adapter: AdapterSettings = AdapterSettings()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    preflight: Literal["stop", "warn"] = "stop"
    """Whether a check before training that fails stops the run, or is reported and the run goes on."""
    plugins: tuple[str, ...] = ()
    """Installed plugins the run needs, by entry point; a module is named by --plugin MODULE."""
