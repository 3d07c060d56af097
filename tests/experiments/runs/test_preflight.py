"""Before the first step: a table of what tokens meet, a stop where it cannot work, a record in the result."""

import json
import math

import pytest

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.runs.cell import calibration_rows, load_adapted
from manifold_lora.experiments.runs.preflight import Preflight, dose_summary
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks import build_task
from manifold_lora.models.module_geometry import ModuleGeometry, Quantiles, measure_geometry


@pytest.fixture
def flags(base, tmp_path):
    flags = ["--arm", "direct", "--model", base, "--task.style", "equation", "--task.limit", "24"]
    return [*flags, "--adapter.rank", "2", "--cache", str(tmp_path / "cache")]


def module(dose=0.1, capped=0.0, gain=1.2, tokens=10):
    angles = Quantiles(1.0, 2.0, 3.0)
    return ModuleGeometry(tokens, angles, angles, Quantiles(1.1, 1.2, gain), capped, dose, dose)


def test_the_command_shows_the_modules_with_the_longest_tokens_and_the_ceiling(flags, capsys):
    assert main(["preflight", *flags, "--shown", "2"]) == 0
    message = capsys.readouterr().out
    assert "the 2 of 14 modules with the longest tokens" in message
    assert message.count("model.layers.") == 2
    assert "(median of 14 modules)" in message
    assert "x LoRA's" in message
    assert "a perfect model, in" in message


def test_a_gain_that_no_rate_can_train_stops_the_run_by_name(flags, tmp_path, capsys):
    extreme = ["--adapter.curvature", "-400", "--adapter.max-angle", "inf"]
    assert main(["preflight", *flags, *extreme]) == 1
    message = capsys.readouterr().out
    assert "times that of LoRA, more than 10; the largest gain" in message
    assert "is at model.layers." in message
    train = ["train", *flags, *extreme, "--train.steps", "1", "--output", str(tmp_path / "run")]
    assert main(train) == 2
    assert "preflight: got 'the first gradient is" in capsys.readouterr().err


def test_what_was_measured_is_in_the_result(flags, tmp_path):
    train = ["--train.steps", "2", "--train.batch-size", "8", "--output", str(tmp_path / "run")]
    assert main(["train", *flags, *train]) == 0
    geometry = json.loads((tmp_path / "run" / "result.json").read_text())["geometry"]
    assert len(geometry["preflight"]["modules"]) == 14
    for one in geometry["preflight"]["modules"].values():
        assert one["angle"]["median"] == pytest.approx(1.0, rel=1e-5)  # calibrated
        assert one["norm"]["median"] <= one["norm"]["p99"] <= one["norm"]["largest"]
        assert 0 <= one["dose"] < 1
    assert geometry["preflight"]["faults"] == []
    assert set(geometry["dose"]) == {"start", "end"}
    start = geometry["dose"]["start"]
    assert start["median"] <= start["p90"] <= start["largest"]


@pytest.mark.parametrize("curvature", [-1.0, {"mode": "dose", "share": 0.01, "out_of_reach": "nearest"}])
def test_what_calibration_measured_is_what_the_model_measures_again(base, curvature):
    adapter = {"rank": 2, "manifold": "lorentz", "curvature": curvature}
    run = validate(RunSettings, {"model": {"name": base}, "adapter": adapter}, "test")
    adapted = load_adapted(run, base, build_task("taxonomy").train, {})
    assert adapted.geometry == measure_geometry(adapted.model, [calibration_rows(adapted, run)])


@pytest.mark.parametrize("share", [0.01, 0.02])
def test_a_run_has_the_dose_that_its_curvature_asks_for(flags, tmp_path, share):
    asked = ["--adapter.curvature", f"{{mode: dose, share: {share}, out_of_reach: nearest}}"]
    train = ["--train.steps", "1", "--train.batch-size", "8", "--output", str(tmp_path / "run")]
    assert main(["train", *flags, *asked, *train]) == 0
    geometry = json.loads((tmp_path / "run" / "result.json").read_text())["geometry"]
    doses = [one["dose"] for one in geometry["preflight"]["modules"].values()]
    assert max(doses) == pytest.approx(share, rel=1e-4)
    assert geometry["dose"]["start"]["largest"] == pytest.approx(share, rel=1e-4)


def test_a_dose_out_of_reach_is_one_line_that_names_the_module(flags, capsys):
    asked = ["--adapter.curvature", "{mode: dose, share: 0.9}"]
    assert main(["preflight", *flags, *asked]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "dose" in line]
    assert "dose of model.layers.0" in line
    assert "at most 0." in line


def test_the_summary_counts_modules_for_doses_and_tokens_for_the_limit():
    modules = {str(k): module(dose=k / 10, capped=0.5 if k == 10 else 0.0, tokens=k) for k in range(1, 11)}
    found = dose_summary(modules)
    assert found == {
        "median": pytest.approx(0.55),
        "p90": 0.9,
        "largest": 1.0,
        "capped": pytest.approx(5 / 55),
    }


def test_figures_that_are_not_finite_are_no_json_numbers():
    data = Preflight({"m": module(gain=math.inf)}, math.nan, ("broken",)).to_dict()
    assert data["modules"]["m"]["gain"]["largest"] is None
    assert data["gradient_ratio"] is None
    json.dumps(data, allow_nan=False)
