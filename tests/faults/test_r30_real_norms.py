"""R30, norms of real models: a first gradient like LoRA's, twenty finite steps, a loss that falls like
LoRA's.

Everywhere on a tiny model with SmolLM2's norms; on SmolLM2 and Gemma 3 where `manifold-lora fetch` put them.
"""

from functools import cache
from statistics import fmean

import pytest
import torch
from peft import LoraConfig

from manifold_lora import ManifoldLoraConfig, calibrate
from manifold_lora.models.first_gradient import gradient_ratio
from manifold_lora.models.tuner.apply import adapt

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
STEPS, ROWS = 20, 8
GEOMETRIES = [
    {},
    {"curvature": -4.0},
    {"manifold": "poincare"},
    {"manifold": "sphere"},
    {"transform": "boost"},
]


def batches(start=1, high=64, length=12):
    """Rows that a model can learn: each token is followed by the one after it; ``start`` is the sink."""
    first = torch.randint(4, high - length, (STEPS * ROWS, 1), generator=torch.Generator().manual_seed(0))
    rows = first + torch.arange(length)
    rows[:, 0] = start
    return [{"input_ids": some, "labels": some} for some in rows.split(ROWS)]


def losses(model, data, rate):
    """The loss of every step of AdamW at this rate, gradients clipped at 1 as trainers do."""
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate)
    found = []
    for batch in data:
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad()
        found.append(loss.item())
    return found


@pytest.fixture(scope="module")
def lora_losses(tiny_with_sink):
    @cache
    def of(rate):
        torch.manual_seed(0)
        plain = LoraConfig(r=8, lora_alpha=16, target_modules=ALL, task_type="CAUSAL_LM")
        return losses(adapt(tiny_with_sink(), plain), batches(), rate)

    return of


@pytest.fixture
def adapted(tiny_with_sink):
    def build(calibrated, **geometry):
        torch.manual_seed(0)
        options = {"r": 8, "lora_alpha": 16, "target_modules": ALL, "task_type": "CAUSAL_LM"}
        model = adapt(tiny_with_sink(), ManifoldLoraConfig(**options, **geometry))
        if calibrated:
            calibrate(model, batches()[:1])
        return model

    return build


# Uncalibrated use warns, which is not what this is about.
pytestmark = pytest.mark.filterwarnings("ignore:the norm scaling is not calibrated")


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("calibrated", [True, False], ids=["calibrated", "as it comes"])
def test_the_first_gradient_is_within_3_of_loras(adapted, calibrated, geometry):
    for batch in batches()[:2]:
        assert 1 / 3 < gradient_ratio(adapted(calibrated, **geometry), batch) < 3


@pytest.mark.parametrize("calibrated", [True, False], ids=["calibrated", "as it comes"])
@pytest.mark.parametrize("rate", [1e-3, 1e-2])
def test_twenty_steps_are_finite_and_fall_as_loras_do(adapted, lora_losses, calibrated, rate):
    ours, plain = losses(adapted(calibrated), batches(), rate), lora_losses(rate)
    assert plain[-1] < plain[0]
    for step in range(4, STEPS):
        # Means over five steps: of single ones the batch decides.
        assert fmean(ours[step - 4 : step + 1]) < 1.2 * fmean(plain[step - 4 : step + 1]), step


def test_without_the_angle_limit_the_sink_decides_the_gradient(adapted):
    """What the limit is for: the same model, the same tokens, no limit."""
    assert gradient_ratio(adapted(False, max_angle="inf"), batches()[0]) > 1e6


def real(name, build):
    """A fetched model under an adapter, and batches of equations; skips where it is not there."""
    from manifold_lora.experiments.runs.prepare import task_of
    from manifold_lora.experiments.settings.run import TaskSettings
    from manifold_lora.experiments.training.encoding import encode_examples, pad_id, pad_right
    from manifold_lora.models.load import load_base
    from manifold_lora.models.shipped import SHIPPED

    if not SHIPPED[name].path.is_file():
        pytest.skip(f"{name} is not fetched: manifold-lora fetch {name}")
    pytest.importorskip("gguf", reason="the extra gguf is not installed")
    model, tokenizer = load_base(name, dtype=torch.float32)
    examples = task_of(TaskSettings(name="arithmetic", limit=STEPS * 4), name).train
    encoded = encode_examples(tokenizer, examples)
    data = [pad_right(encoded[k : k + 4], pad_id(tokenizer)) for k in range(0, len(encoded), 4)]
    torch.manual_seed(0)
    options = {"r": 8, "lora_alpha": 16, "target_modules": ALL, "task_type": "CAUSAL_LM"}
    return adapt(model, build(**options)), data


@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_the_first_gradient_on_a_real_model_is_within_3_of_loras(name):
    model, data = real(name, ManifoldLoraConfig)
    assert 1 / 3 < gradient_ratio(model, data[0]) < 3
    calibrate(model, data[:2])
    assert 1 / 3 < gradient_ratio(model, data[0]) < 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["smollm2", "gemma3"])
def test_twenty_steps_on_a_real_model_are_finite_and_fall_as_loras_do(name):
    plain = losses(*real(name, LoraConfig), 1e-3)
    ours = losses(*real(name, ManifoldLoraConfig), 1e-3)
    for step in range(4, STEPS):
        assert fmean(ours[step - 4 : step + 1]) < 1.2 * fmean(plain[step - 4 : step + 1]), step
