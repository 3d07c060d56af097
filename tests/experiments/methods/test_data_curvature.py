"""``curvature: {mode: data}`` in the runner: measured on training prompts, refused where delta has no say."""

import math
import subprocess
import sys

import pytest
import torch

from manifold_lora.errors import CurvatureError, ManifoldLoraError
from manifold_lora.experiments.methods.calibration import calibrate
from manifold_lora.experiments.methods.config import adapter_spec, check_adapter, peft_config
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.runs.cell import load_adapted, run_cell
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import AdapterSettings
from manifold_lora.experiments.sweeps.cells import expand
from manifold_lora.experiments.tasks.registry import build_task
from manifold_lora.experiments.token_geometry.layer_curvature import kappa_by_module
from manifold_lora.models.geometry_log import effective_kappa
from manifold_lora.models.load import load_adapter, load_base
from manifold_lora.models.saved.save import save_adapter
from manifold_lora.models.tiny import tiny_model, word_tokenizer
from manifold_lora.models.tuner.apply import adapt

DATA = {"mode": "data", "prompts": 8}
PRODUCT = {"name": "product", "parts": [{"share": 1, "name": "lorentz"}, {"share": 1, "name": "sphere"}]}
SEVEN = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture(scope="module")
def task():
    return build_task("taxonomy", style="equation", limit=24)


@pytest.fixture(scope="module")
def base(task, tmp_path_factory):
    """The folder of an untrained Llama of two layers that knows the task's words."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = word_tokenizer(
        [f"{example.prompt} {example.target}" for example in build_task("taxonomy").train]
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(5)
    model = tiny_model(len(tokenizer), hidden_size=16, layers=2, heads=2, intermediate_size=32)
    model.save_pretrained(folder)
    return str(folder)


def cell_of(base, output="unused", **adapter):
    data = {
        "task": {"name": "taxonomy", "style": "equation", "limit": 24},
        "model": {"name": base},
        "adapter": {"rank": 2, **adapter},
        "train": {"steps": 2, "batch_size": 8},
        "evaluation": {"batch_size": 24, "max_new_tokens": 2},
        "output": str(output),
        "grid": {"arm": ["direct-data"]},
    }
    (cell,) = expand(validate(AblationSettings, data, "test"), {})
    return cell


def test_a_cell_records_a_finite_negative_kappa_for_each_layer_and_they_differ(base, tmp_path):
    cell = cell_of(base)
    plain = {"id": cell.id, "run": cell.run.model_dump(mode="json"), "point": cell.point, "needs": None}
    run_cell(plain, str(tmp_path), base, {}, lambda *at: None)
    record = ResultStore(tmp_path).read(cell.id)
    assert record["status"] == "ok"
    assert record["run"]["adapter"]["curvature"] == {"mode": "data"}
    kappas = record["geometry"]["kappa"]
    assert len(kappas) == 14
    assert all(math.isfinite(kappa) and kappa < 0 for kappa in kappas.values())
    for leaf in SEVEN:
        first, second = (kappa for name, kappa in kappas.items() if f".{leaf}." in name)
        assert first != second


def test_a_reload_measures_nothing_and_gives_identical_logits(base, task, tmp_path, monkeypatch):
    model, tokenizer, *_ = load_adapted(cell_of(base).run, base, task.train, {})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    save_adapter(model.eval(), tmp_path / "adapter")
    monkeypatch.delattr("manifold_lora.experiments.token_geometry.data_curvature.DataCurvature.measure")
    again = load_adapter(tmp_path / "adapter", load_base(base)[0]).eval()
    ids = torch.tensor([tokenizer(task.train[0].prompt)["input_ids"]])
    assert effective_kappa(again) == effective_kappa(model)
    assert torch.equal(again(ids).logits, model(ids).logits)
    with model.disable_adapter():
        assert not torch.equal(again(ids).logits, model(ids).logits)


def test_the_adapter_starts_as_the_one_with_a_stated_curvature_does(base, task):
    measured = load_adapted(cell_of(base).run, base, task.train, {})[0].state_dict()
    run = cell_of(base).run
    stated_run = run.model_copy(update={"adapter": run.adapter.model_copy(update={"curvature": None})})
    stated = load_adapted(stated_run, base, task.train, {})[0].state_dict()
    assert measured.keys() == stated.keys()
    different = {name for name in stated if not torch.equal(measured[name], stated[name])}
    assert different == {name for name in stated if "curvature" in name} != set()


def test_a_measured_kappa_that_equals_the_stated_one_is_the_stated_arm(base, task):
    """At equal kappa it is the fixed arm to the last bit, trained or not."""
    model, tokenizer = load_base(base)
    ids = torch.tensor([tokenizer(task.train[0].prompt)["input_ids"]])
    names = [name for name, _ in model.named_modules() if name.rpartition(".")[2] in SEVEN]

    def logits(settings, kappas):
        torch.manual_seed(1)
        adapted = adapt(load_base(base)[0], peft_config(settings, {}, kappas))
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return adapted.eval()(ids).logits

    measured = logits(AdapterSettings(curvature=DATA), dict.fromkeys(names, -0.3))
    assert torch.equal(measured, logits(AdapterSettings(curvature=-0.3), {}))
    assert not torch.equal(measured, logits(AdapterSettings(curvature=-0.6), {}))


def test_strength_leads_from_the_stated_arm_to_the_measured_one(base, task):
    model, tokenizer = load_base(base)

    def kappas(**fields):
        return calibrate(AdapterSettings(curvature={**DATA, **fields}), model, tokenizer, task.train, seed=0)

    measured, halfway = kappas(), kappas(strength=0.5, kappa=-0.3)
    assert kappas(strength=1.0) == measured
    assert kappas(strength=0, kappa=-0.3) == dict.fromkeys(measured, -0.3)
    for name, kappa in halfway.items():
        assert kappa == pytest.approx(-math.sqrt(0.3 * -measured[name]), rel=1e-9)
    config = peft_config(AdapterSettings(curvature=DATA), {}, kappas(strength=0, kappa=-0.3))
    assert {config.layer_spec(name).manifold.curvature.kappa for name in measured} == {-0.3}


def test_with_all_prompts_the_curvature_is_that_of_the_training_set(base, task):
    model, tokenizer = load_base(base)
    settings = AdapterSettings(curvature={"mode": "data", "prompts": 1000}, target_modules=["q_proj"])
    found = calibrate(settings, model, tokenizer, task.train, seed=0)
    prompts = [example.prompt for example in task.train]
    assert found == pytest.approx(kappa_by_module(model, tokenizer, prompts, targets=["q_proj"]))


def test_the_prompts_are_drawn_by_the_seed(base, task):
    model, tokenizer = load_base(base)
    drawn = [calibrate(AdapterSettings(curvature=DATA), model, tokenizer, task.train, s) for s in (0, 0, 1)]
    assert drawn[0] == drawn[1]
    assert all(drawn[0][name] != drawn[2][name] for name in drawn[0])


@pytest.mark.parametrize(
    ("targets", "leaves", "count"),
    [
        ("all-linear", SEVEN, 14),
        (["self_attn.q_proj", "up_proj"], {"q_proj", "up_proj"}, 4),
        (r".*layers\.1\.mlp\.down_proj", {"down_proj"}, 1),
    ],
    ids=["all", "names", "pattern"],
)
def test_exactly_the_adapted_modules_are_measured(base, task, targets, leaves, count):
    model, tokenizer = load_base(base)
    settings = AdapterSettings(curvature=DATA, target_modules=targets)
    found = calibrate(settings, model, tokenizer, task.train, seed=0)
    assert {name.rpartition(".")[2] for name in found} == leaves
    assert len(found) == count
    assert set(found) <= {name for name, _ in model.named_modules()}


def test_a_module_that_no_prompt_reaches_is_reported(base, task):
    model, tokenizer = load_base(base)
    model.model.layers[1].mlp.spare_proj = torch.nn.Linear(16, 16)
    settings = AdapterSettings(curvature=DATA, target_modules=["q_proj", "spare_proj"])
    with pytest.raises(ManifoldLoraError, match=r"layers\.1\.mlp\.spare_proj.*prompts reach"):
        calibrate(settings, model, tokenizer, task.train, seed=0)


@pytest.mark.parametrize(
    "settings", [AdapterSettings(), AdapterSettings(method="lora", curvature=DATA)], ids=["default", "lora"]
)
def test_nothing_is_measured_where_nothing_asks_for_it(settings):
    assert calibrate(settings, None, None, [], seed=0) == {}


@pytest.mark.parametrize("name", ["lorentz", "poincare", "stereographic"])
def test_geometries_that_can_be_hyperbolic_take_it(name):
    settings = AdapterSettings(manifold={"name": name}, curvature=DATA)
    check_adapter(settings)
    assert adapter_spec(settings).manifold.name == name


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"manifold": "sphere"}, CurvatureError, r"allowed: .* lorentz, poincare, stereographic"),
        ({"manifold": "euclidean"}, CurvatureError, r"got 'euclidean'; allowed: .* lorentz"),
        ({"manifold": PRODUCT}, CurvatureError, r"got 'product'; allowed: .* lorentz"),
        ({"manifold": {"name": "lorentz", "curvature": -2.0}}, ManifoldLoraError, "one place"),
        (
            {"manifold": "poincare", "transform": "boost"},
            ManifoldLoraError,
            "allowed: direct, norm_blind",
        ),
        ({"curvature": {"mode": "data", "kappa": -1.0}}, ManifoldLoraError, "a strength below 1"),
        ({"curvature": {**DATA, "kappa": 1.0, "strength": 0.5}}, CurvatureError, "a negative number"),
        ({"curvature": {**DATA, "strength": 1.5}}, ManifoldLoraError, "from 0 to 1"),
        ({"curvature": {"mode": "data", "rule": "log3"}}, ManifoldLoraError, "did you mean 'log2'"),
        ({"curvature": {"mode": "data", "rule": "log2"}, "norm_scaling": "unit"}, ManifoldLoraError, "unit"),
    ],
    ids=str,
)
def test_configs_that_cannot_be_measured_are_refused_before_anything_runs(fields, error, message):
    arms = {"mine": {"curvature": DATA, **fields}}
    with pytest.raises(error, match=message):
        expand(AblationSettings(arms=arms, grid={"arm": ["mine"]}), {})


def test_the_refusal_needs_no_torch():
    code = (
        "import sys; from manifold_lora.experiments.methods.config import check_adapter\n"
        "from manifold_lora.experiments.settings.run import AdapterSettings\n"
        "try: check_adapter(AdapterSettings(manifold='sphere', curvature={'mode': 'data'}))\n"
        "except ValueError: sys.exit('torch' in sys.modules)\n"
        "sys.exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
