"""R27: settings that cannot work are refused before torch is imported: exit 2, one line, under a second."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_settings import Case, faults_of
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.folder import SETTINGS
from manifold_lora.experiments.settings import preflight
from manifold_lora.experiments.settings.flags import read_flags
from manifold_lora.experiments.settings.parse import dump_yaml, parse_flags
from manifold_lora.experiments.settings.preflight import check_pattern, check_writable
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.settings.yaml_file import parse_yaml

# Flags, and what the one line must hold.
FLAGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "seed -1": ("--train.seed -1", ("train.seed", "'-1'", "greater than or equal to 0")),
    "seed 2^32": ("--train.seed 4294967296", ("train.seed", "less than 4294967296")),
    "task seed -1": ("--task.seed -1", ("task.seed", "greater than or equal to 0")),
    "seed 1.5": ("--train.seed 1.5", ("train.seed", "integer")),
    "curvature -1e308": ("--adapter.curvature -1e308", ("adapter.curvature", "-1e+308", "1e+30")),
    "curvature -1e-308": ("--adapter.curvature -1e-308", ("adapter.curvature", "1e-30")),
    "curvature true": ("--adapter.curvature true --adapter.manifold sphere", ("adapter.curvature", "True")),
    "curvature text": ("--adapter.curvature flat", ("kappa", "'flat'")),
    "curvature list": ("--adapter.curvature [-1.0]", ("kappa", "[-1.0]")),
    "rank 10^9": ("--adapter.rank 1000000000", ("adapter.rank", "65536")),
    "rank 0": ("--adapter.rank 0", ("adapter.rank", "greater than or equal to 1")),
    "rank -4": ("--adapter.rank -4", ("adapter.rank", "'-4'")),
    "rank 1e3": ("--adapter.rank 1e3", ("adapter.rank", "integer")),
    "alpha 0": ("--adapter.alpha 0", ("adapter.alpha", "greater than 0")),
    "alpha 1e300": ("--adapter.alpha 1e300", ("adapter.alpha", "less than or equal")),
    "alpha nan": ("--adapter.alpha nan", ("adapter.alpha", "finite")),
    "angle -1": ("--adapter.max_angle -1", ("adapter.max_angle in command line", "greater than 0")),
    "angle nan": ("--adapter.max_angle nan", ("adapter.max_angle in command line", "finite")),
    "dropout 1": ("--adapter.dropout 1", ("adapter.dropout", "less than 1")),
    "targets ((": ("--adapter.target_modules ((", ("target_modules", "'(('", "unterminated")),
    "targets []": ("--adapter.target_modules []", ("target_modules", "names of modules")),
    "targets [1]": ("--adapter.target_modules [1]", ("target_modules", "names of modules")),
    "targets 7": ("--adapter.target_modules 7", ("target_modules", "a pattern")),
    "targets {}": ("--adapter.target_modules {}", ("target_modules", "{}")),
    "targets null": ("--adapter.target_modules null", ("target_modules", "None")),
    "targets that explode": ("--adapter.target_modules (([a-z0-9_.]+)+)+!", ("target_modules", "for ever")),
    "targets of choices": ("--adapter.target_modules (a|aa)*b", ("target_modules", "for ever")),
    "targets of stars": ("--adapter.target_modules .*.*.*.*.*x", ("target_modules", "at most 4")),
    "targets [((]": ("--adapter.target_modules ['((']", ("target_modules", "names of modules")),
    "targets a,b": ("--adapter.target_modules q_proj,v_proj", ("a list of names", "[q_proj,v_proj]")),
    "rows 10^12": ("--adapter.calibration_rows 1000000000000", ("calibration_rows", "10000000")),
    "labels nowhere": ("--task.labels no.json", ("task.labels", "no.json", "distilled")),
    "pattern ((": ("--adapter.manifold_pattern {'((':sphere}", ("manifold_pattern", "unterminated")),
    "steps yes": ("--train.steps yes", ("train.steps", "'yes'", "integer")),
    "steps 0": ("--train.steps 0", ("train.steps", "greater than or equal to 1")),
    "steps 10^18": ("--train.steps 1000000000000000000", ("train.steps", "10000000")),
    "steps 1:30": ("--train.steps 1:30", ("train.steps", "'1:30'")),
    "steps 0x": ("--train.steps 0x", ("train.steps", "'0x'")),
    "rate true": ("--train.learning_rate true", ("train.learning_rate", "'true'", "number")),
    "rate 0": ("--train.learning_rate 0", ("train.learning_rate", "greater than 0")),
    "rate 1e300": ("--train.learning_rate 1e300", ("train.learning_rate", "less than or equal")),
    "rate inf": ("--train.learning_rate inf", ("train.learning_rate", "finite")),
    "epochs 1e300": ("--train.epochs 1e300", ("train.epochs", "100000")),
    "epochs 0": ("--train.epochs 0", ("train.epochs", "greater than 0")),
    "batch 0": ("--train.batch_size 0", ("train.batch_size", "greater than or equal to 1")),
    "batch 10^12": ("--train.batch_size 1000000000000", ("train.batch_size", "10000000")),
    "accumulation 0": ("--train.gradient_accumulation 0", ("gradient_accumulation", "or equal to 1")),
    "patience -1": ("--train.early_stopping -1", ("early_stopping", "greater than or equal to 0")),
    "validate by": ("--train.validate_by los", ("validate_by", "did you mean 'loss'")),
    "validate every 0": ("--train.validate_every 0", ("validate_every", "greater than or equal to 1")),
    "warmup 1": ("--train.warmup_ratio 1", ("warmup_ratio", "less than 1")),
    "decay -1": ("--train.weight_decay -1", ("weight_decay", "greater than or equal to 0")),
    "norm 0": ("--train.max_grad_norm 0", ("max_grad_norm", "greater than 0")),
    "length 7": ("--train.max_length 7", ("max_length", "greater than or equal to 8")),
    "checkpoints -5": ("--train.checkpoint_every -5", ("checkpoint_every", "greater than or equal to 0")),
    "reporter": ("--train.report_to tensorbord", ("report_to", "did you mean 'tensorboard'")),
    "tokens 0": ("--evaluation.max_new_tokens 0", ("max_new_tokens", "greater than or equal to 1")),
    "beams 0": ("--evaluation.num_beams 0", ("num_beams", "greater than or equal to 1")),
    "beams 10^9": ("--evaluation.num_beams 1000000000", ("num_beams", "1024")),
    "limit 0": ("--task.limit 0", ("task.limit", "greater than or equal to 1")),
    "held out 1": ("--task.held_out 1", ("task.held_out", "less than 0.5")),
    "judge": ("--task.judge numbr", ("task.judge", "did you mean 'number'")),
    "fields of another task": ("--task.prompt_field q", ("field names of an own file", "taxonomy")),
    "bits": ("--model.quantization 3bit", ("model.quantization", "did you mean '8bit'")),
    "no value": ("--train.steps", ("--train.steps", "one value")),
    "two values": ("--train.steps 1 2", ("--train.steps", "'1 2'", "one value")),
    "unknown flag": ("--train.stepz 1", ("'--train.stepz'", "did you mean '--train.steps'")),
    "flag of a block": ("--train {steps:1}", ("'--train'", "flag")),
    "short flag": ("--learning-rate 1", ("did you mean '--train.learning-rate'",)),
    "truth 1": ("--adapter.lora-bias 1", ("adapter.lora_bias", "true or false")),
    "truth twice no": ("--task.no-completion-only false", ("completion_only", "true or false")),
    "output empty": ("--output=", ("--output", "a value")),
    "output a file": ("--output FILE", ("output folder", "is a file")),
    "output in a file": ("--output FILE/x/y", ("output folder", "FILE/x/y", "to write to")),
    "output in /proc": ("--output /proc/x", ("output folder", "/proc/x")),
    "output long": ("--output " + "n" * 300, ("output folder", "name too long")),
    "cache a file": ("--cache FILE", ("cache folder", "is a file")),
    "cache long": ("--cache " + "n" * 300 + "/x", ("cache folder", "name too long")),
    "control in a path": ("--output a\x1bb", ("output", "printable")),
    "no such data": ("--data no/where", ("data", "no/where")),
    "no such file": ("--data no.jsonl --model MODEL", ("task.data", "no such file")),
    "own file on the embedded base": ("--data FILE.jsonl", ("model.name", "a pre-trained model")),
    "benchmark on the embedded base": ("--task gsm8k", ("model.name", "a pre-trained model")),
    "data of a generated task": ("--task arithmetic --data .", ("arithmetic", "generates")),
    "task without data": ("--task word_problems", ("word_problems", "a folder")),
    "no such tests": (
        "--data FILE.jsonl --task.tests gone.jsonl --model MODEL",
        ("task.tests", "gone.jsonl"),
    ),
    "no such model": ("--model ./nowhere", ("model folder", "nowhere")),
    "model without weights": ("--model MODEL --data FILE.jsonl", ("MODEL", "a folder with")),
    "gain alone": ("--arm gain-matched-lora", ("direct",)),
}
# YAML, for what flags cannot say.
CONFIGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "steps: yes": ("train: {steps: yes}", ("train.steps", "True", "no truth value")),
    "steps: 1:30": ("train: {steps: 1:30}", ("train.steps", "'1:30'")),
    "learning_rate: true": ("train: {learning_rate: true}", ("learning_rate", "no truth value")),
    "rank: on": ("adapter: {rank: on}", ("adapter.rank", "no truth value")),
    "seed: no": ("train: {seed: no}", ("train.seed", "no truth value")),
    "lora_bias: 1": ("adapter: {lora_bias: 1}", ("lora_bias", "true or false")),
    "completion_only: text": ("task: {completion_only: 'yes'}", ("completion_only", "true or false")),
    "kappa: true": ("adapter: {manifold: sphere, curvature: {kappa: true}}", ("curvature.kappa", "True")),
    "kappa of a part": (
        "adapter: {manifold: {name: product, parts: [{share: 1, name: lorentz, curvature: -1e300}]}}",
        ("parts[0].curvature", "-1e+300"),
    ),
    "null as a key": ("null: distiled", ("null", "did you mean 'distilled'")),
    "output: ''": ("output: ''", ("output", "some text")),
    "name: ''": ("task: {name: ''}", ("task.name", "some text")),
    "ESC in an arm": ('arms: {"a\\eb": {rank: 2}}\ngrid: {arm: [lora]}', ("arms", "printable")),
    "newline in an arm": ('arms: {"a\\nb": {rank: 2}}\ngrid: {arm: [lora]}', ("arms", "printable")),
    "a date": ("arm: 2026-01-01", ("arm", "string")),
    "grid of 10^9": (
        "grid: {" + ", ".join(f"{key}: {list(range(1, 1001))}" for key in (
            "train.steps", "train.seed", "adapter.rank")) + "}",
        ("grid", "1000000000 combinations", "at most"),
    ),
    "grid of a bool": ("grid: {train.steps: [10, yes]}", ("train.steps", "no truth value")),
    "grid of curvatures": ("grid: {arm: [direct], adapter.curvature: [-1.0, -1e308]}", ("-1e+308",)),
    "timeout: 1e300": ("timeout: 1e300", ("timeout", "1000000000")),
    "jobs: 0": ("jobs: 0", ("jobs", "greater than or equal to 1")),
    "jobs: 10^9": ("jobs: 1000000000", ("jobs", "4096")),
    "gpus: -1": ("execution: {gpus: -1}", ("execution.gpus", "greater than or equal to 0")),
    "slurm here": ("execution: {executor: slurm}", ("execution.executor", "slurm")),
}  # fmt: skip

# Whole command lines of the other verbs that work for minutes.
VERBS: dict[str, tuple[str, tuple[str, ...]]] = {
    "evaluate to a file": ("evaluate --task taxonomy --output FILE", ("output folder", "is a file")),
    "evaluate with a file as cache": ("evaluate --task taxonomy --cache FILE/x", ("cache folder", "FILE")),
    "evaluate no such model": ("evaluate --task svamp --model ./nowhere", ("model folder", "nowhere")),
    "evaluate a run that has not ended": ("evaluate RUN", ("run in RUN", "no result")),
    "geometry to a file": ("geometry --model x --output FILE", ("output folder", "is a file")),
    "geometry seed -1": ("geometry --model x --seed -1", ("seed", "greater than or equal to 0")),
    "geometry seed 2^32": ("geometry --model x --seed 4294967296", ("seed", "less than 4294967296")),
    "preflight with a file as cache": ("preflight --cache FILE", ("cache folder", "is a file")),
    "preflight no such model": ("preflight --model ./nowhere", ("model folder", "nowhere")),
    **{
        f"{verb} {flag} {value}": (f"{verb} {flag} {value}", (flag.strip("-").replace("-", "_"), at_most))
        for verb, flag, value, at_most in (
            ("geometry --model x", "--quadruples", 10**9, "10000000"),
            ("geometry --model x", "--repeats", 10**9, "10000"),
            ("geometry --model x", "--null-draws", 10**9, "10000"),
            ("geometry --model x", "--vocabulary-sample", 10**6, "10000"),
            ("geometry --model x", "--reference-points", 10**6, "10000"),
            ("geometry --model x", "--base", -5, "greater than or equal to 0"),
            ("positive-control", "--studies", 10**7, "10000"),
            ("positive-control", "--train-items", 10**7, "1000000"),
            ("data math10k --data . --output x", "--aqua-rows", -5, "greater than or equal to 0"),
            ("export x", "--examples", 10**15, "10000000"),
            ("check lorentz", "--examples", 10**12, "1000000"),
        )
    },
    "3 10^9 answers of a study": (
        "positive-control --seeds 1000 --items 1000000",
        ("size of a study", "3000000000 answers", "at most 100000000"),
    ),
    "a flag that check has not": ("check lorentz --nope", ("check: command line", "--nope")),
}


@pytest.fixture
def cases(tmp_path: Path) -> dict[str, Case]:
    (tmp_path / "FILE").write_text("x")
    (tmp_path / "FILE.jsonl").write_text('{"question": "x", "answer": "1"}\n')
    (tmp_path / "MODEL").mkdir()
    (tmp_path / "RUN").mkdir()
    (tmp_path / "RUN" / SETTINGS).write_text("arm: lora\n")
    found = {name: Case(["train", *flags.split(" ")], message) for name, (flags, message) in FLAGS.items()}
    for place, (name, (text, message)) in enumerate(CONFIGS.items()):
        path = tmp_path / f"{place}.yaml"
        path.write_text(text + "\n", encoding="utf-8")
        found[name] = Case(["ablate", str(path)], message)
    return found | {name: Case(line.split(" "), message) for name, (line, message) in VERBS.items()}


def test_settings_that_cannot_work(cases: dict[str, Case], tmp_path: Path, tally) -> None:
    """A hundred of them; nothing is written either."""
    before = sorted(os.listdir(tmp_path))
    bad = faults_of(cases, tmp_path)
    assert not bad, json.dumps(bad, indent=1)
    assert sorted(os.listdir(tmp_path)) == before
    tally(
        "R27", "settings that cannot work refused with exit 2 in one line", len(cases) - len(bad), len(cases)
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_console_without_the_signs_of_the_tables(encoding: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "manifold_lora.experiments.cli", "train", "--task.limit", "4"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert f"standard output: got '{encoding}'" in done.stderr.replace("iso8859-1", "latin-1")
    assert "PYTHONIOENCODING=utf-8" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_closed_console(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ManifoldLoraError, match="closed"):
        preflight.check_console()
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    preflight.check_console()


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another user would see it, for root may write anywhere."""

    def refuse(prefix: str, dir: Path) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(preflight.tempfile, "mkdtemp", refuse)
    with pytest.raises(ManifoldLoraError, match=r"output folder \(Permission denied\)"):
        check_writable("output", tmp_path / "new" / "one")


def test_a_good_folder_is_left_as_it_was(tmp_path: Path) -> None:
    check_writable("output", tmp_path / "new" / "one")
    check_writable("output", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pattern", [r".*layers\.(0|1)\..*q_proj", r"(q|k)_proj", r"layers\.\d+\.mlp", "all-linear", "[(+]_proj+"]
)
def test_patterns_that_people_write(pattern: str) -> None:
    check_pattern("target_modules", pattern)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1", 1), ("010", "010"), ("0x10", 16), ("1_000", "1_000"), ("1:30", "1:30"),
        ("1:30.5", "1:30.5"), (".5", 0.5), ("5.", 5.0), ("-1.5e3", -1500.0), ("+7", 7), ("1e", "1e"),
        ("0", 0), ("00", "00"), ("1.2.3", "1.2.3"), ("yes", True), ("'1'", "1"),
    ],
)  # fmt: skip
def test_numbers_of_yaml(text: str, value: object) -> None:
    found = parse_yaml(text)
    assert (found, type(found)) == (value, type(value))


def test_infinity_of_yaml_is_a_number_that_settings_refuse() -> None:
    assert parse_yaml("[.inf, -.INF]") == [float("inf"), float("-inf")]


@given(
    st.fixed_dictionaries(
        {
            "--train.steps": st.integers(1, 10**7).map(str),
            "--train.learning-rate": st.floats(1e-30, 1e30).map(repr),
            "--adapter.lora-bias": st.sampled_from(["true", "False"]),
            "--task.limit": st.sampled_from(["None", "5"]),
            "--adapter.manifold": st.sampled_from(["sphere", "{name: sphere, curvature: 2.0}"]),
        }
    )
)
def test_flags_say_what_yaml_says(flags: dict[str, str]) -> None:
    """A flag and the same value in a config file make the same settings, and their YAML reads back."""
    asked = parse_flags(RunSettings, RunSettings(), [word for pair in flags.items() for word in pair], "test")
    blocks: dict[str, dict[str, object]] = {}
    for flag, value in flags.items():
        block, _, leaf = flag.removeprefix("--").replace("-", "_").partition(".")
        blocks.setdefault(block, {})[leaf] = None if value == "None" else parse_yaml(value)
    assert asked == RunSettings.model_validate(blocks)
    assert dump_yaml(RunSettings.model_validate(parse_yaml(dump_yaml(asked)))) == dump_yaml(asked)


def test_the_ways_to_write_a_flag() -> None:
    words = ["--train.report_to", "tensorboard", "trackio", "--task.no-completion-only", "--train.steps=7"]
    asked = read_flags(RunSettings, [*words, "--model", "x/y", "--train.steps", "8", "--adapter.lora-bias"])
    assert asked == {
        "train": {"report_to": ("tensorboard", "trackio"), "steps": "8"},
        "task": {"completion_only": False},
        "model": {"name": "x/y"},
        "adapter": {"lora_bias": True},
    }
