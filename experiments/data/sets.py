"""Test and training sets by name: their file in the data folder, its schema, and the hub's copy."""

from dataclasses import dataclass

from manifold_lora.experiments.data import hub_rows
from manifold_lora.experiments.data.hub import Hub
from manifold_lora.experiments.data.rows import (
    ChoiceRow,
    EquationRow,
    GradeSchoolRow,
    LabelledRow,
    LabelRow,
    MathRow,
    ProblemRow,
    RationaleRow,
    Record,
)


@dataclass(frozen=True)
class TestSet:
    """A test set; ``train`` is what a task of this name learns from unless its settings name other data."""

    file: str
    schema: type[Record]
    train: str
    hub: Hub


@dataclass(frozen=True)
class TrainingSet:
    """A training set; where it has no validation file, rows are held out for that."""

    files: tuple[str, ...]
    schema: type[Record]
    validation: str | None = None
    hub: Hub | None = None


_PARQUET = "refs/convert/parquet"
_GSM8K = Hub("openai/gsm8k", hub_rows.gsm8k, config="main")
_AQUA = Hub("deepmind/aqua_rat", hub_rows.aqua, config="raw", validation="validation")
_MAWPS = Hub("MU-NLPC/Calc-mawps", hub_rows.mawps, validation="validation")
# Sets that nobody trains on: all their rows are judged by, as in the paper.
_SVAMP = Hub("ChilleD/SVAMP", hub_rows.svamp, test="train+test", train=None)
_MULTIARITH = Hub("ChilleD/MultiArith", hub_rows.multiarith, test="train+test", train=None)
_ADDSUB, _SINGLEEQ = (
    Hub("allenai/lila", hub_rows.lila, "train+validation+test", None, None, config, _PARQUET)
    for config in ("addsub", "singleq")
)
# Of these the test labels are not published: the validation split is judged by, and held-out training rows
# are what is chosen by.
_BOOLQ = Hub("google/boolq", hub_rows.boolq, test="validation")
_PIQA = Hub("baber/piqa", hub_rows.piqa, test="validation")
_SIQA = Hub("lighteval/siqa", hub_rows.social_i_qa, test="validation")
_HELLASWAG = Hub("Rowan/hellaswag", hub_rows.hellaswag, test="validation")
_WINOGRANDE = Hub("allenai/winogrande", hub_rows.winogrande, test="validation", config="winogrande_xl")
_ARC_EASY, _ARC_CHALLENGE = (
    Hub("allenai/ai2_arc", hub_rows.arc, validation="validation", config=config)
    for config in ("ARC-Easy", "ARC-Challenge")
)
_OPENBOOKQA = Hub("allenai/openbookqa", hub_rows.openbookqa, validation="validation", config="main")

_COMMONSENSE = {
    "boolq": ("boolq", _BOOLQ),
    "piqa": ("piqa", _PIQA),
    "social_i_qa": ("social_i_qa", _SIQA),
    "hellaswag": ("hellaswag", _HELLASWAG),
    "winogrande": ("winogrande", _WINOGRANDE),
    "arc_easy": ("ARC-Easy", _ARC_EASY),
    "arc_challenge": ("ARC-Challenge", _ARC_CHALLENGE),
    "openbookqa": ("openbookqa", _OPENBOOKQA),
}

TEST_SETS: dict[str, TestSet] = {
    "gsm8k": TestSet("tests/gsm8k.json", ProblemRow, "gsm8k", _GSM8K),
    "aqua": TestSet("tests/AQuA.json", ChoiceRow, "aqua", _AQUA),
    "mawps": TestSet("tests/mawps.json", ProblemRow, "mawps", _MAWPS),
    "svamp": TestSet("tests/SVAMP.json", ProblemRow, "mawps", _SVAMP),
    "addsub": TestSet("tests/AddSub.json", ProblemRow, "mawps", _ADDSUB),
    "multiarith": TestSet("tests/MultiArith.json", ProblemRow, "mawps", _MULTIARITH),
    "singleeq": TestSet("tests/SingleEq.json", ProblemRow, "mawps", _SINGLEEQ),
    **{
        name: TestSet(f"commonsense/{file}.test.json", LabelRow, name, hub)
        for name, (file, hub) in _COMMONSENSE.items()
    },
}
TRAIN_SETS: dict[str, TrainingSet] = {
    "math10k": TrainingSet(("train/math10k_rebuild.jsonl",), MathRow),
    "gsm8k": TrainingSet(("train/gsm8k_train.jsonl",), GradeSchoolRow, None, _GSM8K),
    "aqua": TrainingSet(("train/aqua_train_flan.jsonl",), RationaleRow, "train/aqua_dev.jsonl", _AQUA),
    "mawps": TrainingSet(
        ("train/mawps_train_equations.jsonl", "train/mawps_single_train_equations.jsonl"),
        EquationRow,
        "train/mawps_valid_equations.jsonl",
        _MAWPS,
    ),
    **{
        name: TrainingSet((f"commonsense/{file}.train.json",), LabelledRow, None, hub)
        for name, (file, hub) in _COMMONSENSE.items()
    },
}
# Tasks of several sets: what is learned from, what is judged by.
GROUPS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "math10k": (("math10k",), ("mawps", "svamp", "gsm8k", "aqua")),
    "commonsense": (tuple(_COMMONSENSE), tuple(_COMMONSENSE)),
}


def sets_of(name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The training sets and the test sets of a task."""
    return GROUPS[name] if name in GROUPS else ((TEST_SETS[name].train,), (name,))
