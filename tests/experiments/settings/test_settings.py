"""Default < YAML < flag, and every fault reported in one line without torch."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import (
    brief,
    dump_yaml,
    field_paths,
    load_settings,
    parse_flags,
    validate,
)
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.settings.yaml_file import parse_yaml

CONFIGS = sorted((Path(__file__).parents[3] / "experiments" / "configs").glob("*.yaml"))


@given(
    rate=st.floats(1e-8, 10),
    steps=st.integers(1, 10**6),
    arms=st.lists(st.sampled_from(["lora", "direct", "boost"]), min_size=1),
    curvature=st.one_of(st.none(), st.floats(-10, -0.1), st.just({"mode": "learned", "kappa": -2.0})),
)
def test_resolved_settings_read_back_as_themselves(rate, steps, arms, curvature):
    settings = AblationSettings(
        train={"learning_rate": rate, "steps": steps}, adapter={"curvature": curvature}, grid={"arm": arms}
    )
    again = validate(AblationSettings, parse_yaml(dump_yaml(settings)), "dump")
    assert again.model_dump(mode="json") == settings.model_dump(mode="json")


@given(rate=st.floats(1e-8, 10), arms=st.lists(st.sampled_from(["lora", "direct"]), min_size=1))
def test_what_differs_from_the_defaults_is_a_line_that_reads_back(rate, arms):
    settings = AblationSettings(
        train={"learning_rate": rate}, grid={"arm": arms, "adapter.rank": [*range(99)]}
    )
    line = brief(settings)
    assert "\n" not in line
    assert "steps" not in line
    assert validate(AblationSettings, parse_yaml(line), "line") == settings
    assert brief(validate(AblationSettings, AblationSettings().model_dump(mode="json"), "again")) == "{}"


def test_flags_win_over_yaml_over_defaults(tmp_path):
    config = tmp_path / "a.yaml"
    config.write_text("train: {steps: 7, batch_size: 3}\ngrid: {train.learning_rate: [1e-4, 1e-3]}\n")
    base = load_settings(AblationSettings, config)
    settings = parse_flags(AblationSettings, base, ["--train.steps", "9"], "test")
    assert (settings.train.steps, settings.train.batch_size, settings.train.seed) == (9, 3, 0)
    assert settings.grid == {"train.learning_rate": [1e-4, 1e-3]}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_is_valid_and_expands(path):
    from manifold_lora.experiments.sweeps.cells import expand

    settings = load_settings(AblationSettings, path)
    cells = expand(settings, {})
    assert len({cell.id for cell in cells}) == len(cells) >= 2
    assert settings.baseline in {cell.run.arm for cell in cells}


FAULTS = [
    ({"trian": {}}, "did you mean 'train'"),
    ({"train": {"learning_rat": 1e-3}}, "did you mean 'learning_rate'"),
    ({"rank": 4}, "did you mean 'adapter.rank'"),
    ({"adapter": {"rank": 0}}, "adapter.rank"),
    ({"adapter": {"rank": "four"}}, "integer"),
    ({"train": {"learning_rate": float("nan")}}, "finite"),
    ({"train": {"learning_rate": -1.0}}, "greater than 0"),
    ({"grid": {"arm": []}}, "non-empty list"),
    ({"grid": ["arm"]}, "a mapping"),
    ({"task": 3}, "TaskSettings"),
    ({"jobs": 0}, "greater than or equal to 1"),
]


@pytest.mark.parametrize(("data", "message"), FAULTS, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_reported_by_key_and_nearest_name(data, message):
    with pytest.raises(ManifoldLoraError) as caught:
        validate(AblationSettings, data, "x.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: 1\na: 2\n", ":2"), ("a: [1\n", "x.yaml:"), ("a: !!python/object:os.system {}\n", "x.yaml")],
    ids=["duplicate key", "unclosed list", "python object"],
)
def test_bad_yaml_is_reported_by_line(text, message):
    with pytest.raises(ManifoldLoraError) as caught:
        parse_yaml(text, "x.yaml")
    assert message in str(caught.value)


@given(st.floats(1e-30, 1e30))
def test_exponent_floats_are_numbers(value):
    mantissa, exponent = f"{value:e}".split("e")
    assert parse_yaml(f"{mantissa}e{int(exponent)}") == pytest.approx(value, rel=1e-5)
    assert parse_yaml("1e-4") == 1e-4


def test_field_paths_name_real_fields():
    data = RunSettings().model_dump()
    for path in field_paths(RunSettings):
        block, _, leaf = path.rpartition(".")
        assert leaf in (data[block] if block else data)


COMMANDS = [
    (["ablat"], "did you mean 'ablate'"),
    (["ablate", "no-such-file.yaml"], "no-such-file.yaml"),
    (["ablate", "--arm", "dircet"], "did you mean 'direct'"),
    (["ablate", "--task", "taxnomy"], "did you mean 'taxonomy'"),
    (["ablate", "--adapter.manifold", "lorenz"], "did you mean 'lorentz'"),
    (["ablate", "--adapter.transform", "bost"], "did you mean 'boost'"),
    (["ablate", "--adapter.transform", "{name: power, learned: 3}"], "true or false"),
    (["ablate", "--adapter.transform", "{name: power, p: .inf}"], "a finite number"),
    (["ablate", "--adapter.norm-scaling", "learnt"], "did you mean 'learned'"),
    (["ablate", "--adapter.curvature", "1.0"], "negative"),
    (["ablate", "--adapter.rank", "0"], "greater than or equal to 1"),
    (["ablate", "--grid", "{train.lr: [1]}"], "train.learning_rate"),
    (["ablate", "--grid", "{arm: [gain-matched-lora]}"], "add direct to grid.arm"),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS, ids=lambda value: " ".join(value)[:50])
def test_a_bad_command_exits_2_without_loading_torch(arguments, message, tmp_path):
    code = (
        "import sys; from manifold_lora.experiments.cli import main\n"
        f"try: rc = main({arguments!r})\nexcept SystemExit as end: rc = end.code\n"
        "assert 'torch' not in sys.modules; sys.exit(rc)"
    )
    start = time.process_time()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 2, done.stderr
    assert message in " ".join((done.stdout + done.stderr).split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert time.process_time() - start < 5
