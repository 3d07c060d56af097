"""The simulator's gains are the layer's own: all six arms against ManifoldUpdate on random input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.adapters.update import ManifoldUpdate
from manifold_lora.experiments.planted.gains import Constant, Geometry, Power
from manifold_lora.experiments.planted.settings import PlantedSettings
from manifold_lora.experiments.planted.students import Students
from manifold_lora.experiments.planted.summary import dose_at_start
from manifold_lora.experiments.planted.truth import CLASSES, RANK, WIDTH, Population, plant
from manifold_lora.models.dose import dose, gain_at_start

ARMS = {
    "direct": ("direct", lambda R, limit: Geometry(R, limit)),
    "norm-blind": ("norm_blind", lambda R, limit: Power(R, limit, 0.0)),
    "power": ("power", lambda R, limit: Power(R, limit)),
    "power 1.5": ({"name": "power", "p": 1.5}, lambda R, limit: Power(R, limit, 1.5)),
}


def layer(transform, R, limit, width=WIDTH, rank=RANK, out=CLASSES):
    """A layer of radius R over its calibrated s = 1."""
    spec = {
        "manifold": "lorentz",
        "curvature": -1 / R**2,
        "transform": transform,
        "norm_scaling": "fixed",
        "max_angle": limit,
    }
    update = ManifoldUpdate.from_spec(spec, width, out, rank).double()
    update.calibrate(1.0)
    return update


@pytest.mark.parametrize("arm", ARMS)
@given(
    seed=st.integers(0, 2**20),
    R=st.floats(0.2, 3.0),
    limit=st.sampled_from([1.0, 3.0, float("inf")]),
    size=st.floats(1e-3, 3.0),
)
def test_the_update_is_the_layers(arm, seed, R, limit, size):
    transform, build = ARMS[arm]
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((7, WIDTH)) * np.exp(rng.normal(0, 0.6, (7, 1))) / WIDTH**0.5
    A, B = rng.standard_normal((RANK, WIDTH)) / 6, size * rng.standard_normal((CLASSES, RANK))
    update = x @ A.T @ B.T
    norm, out = (np.linalg.norm(one, axis=1, keepdims=True) for one in (x, update))
    expected = layer(transform, R, limit)(*map(torch.from_numpy, (x, A, B))).detach().numpy()
    c = build(R, limit).value(norm, out, np.zeros(1))
    assert c * update == pytest.approx(expected, rel=1e-6, abs=1e-12)


def gains():
    """One of each kind, the learned exponent away from its start."""
    return [
        Constant(1.3),
        Geometry(0.7, 3.0),
        Power(0.7, 3.0, 0.0),
        Power(0.7, 3.0),
        Power(0.7, 3.0, learned=True),
    ]


@pytest.mark.parametrize("gain", gains(), ids=["constant", "direct", "norm-blind", "power", "power-learned"])
def test_gradients_are_difference_quotients(gain):
    rng = np.random.default_rng(0)
    data = plant(Geometry(0.7, 3.0), (64, 4, 4), Population(0.6, 0.3, 3.0), rng)
    students = Students.start(gain, data.sharpness, 2, 3, rng)
    students.B[:] = 0.3 * rng.standard_normal(students.B.shape)
    students.p[:] = 0.1 if gain.learned else 0.0
    batch = data.train[rng.integers(64, size=(3, 16))]

    def loss():
        _, update, out = students.products(batch)
        c = gain.value(batch.norm * np.ones_like(out), out, students.p)
        logits = students.sharpness * (batch.base + c * update)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        places = np.broadcast_to(batch.labels[None, ..., None], (*logits.shape[:-1], 1))
        return -np.take_along_axis(log_p, places, -1)[..., 0].mean(-1)

    names = ("A", "B", "p") if gain.learned else ("A", "B")
    for name, slope in zip(names, students.gradients(batch), strict=False):
        value = getattr(students, name)
        direction, step = rng.standard_normal(value.shape), 1e-6
        value += step * direction
        above = loss()
        value -= 2 * step * direction
        below = loss()
        value += step * direction
        assert (slope * direction).sum((-1, -2)) == pytest.approx((above - below) / (2 * step), abs=1e-7)


def test_the_first_gradient_at_B_0_is_c_times_loras():
    rng = np.random.default_rng(1)
    data = plant(Constant(), (64, 4, 4), Population(0.0, 0.3, 3.0), rng)
    batch = data.train[np.arange(16)[None]]
    starts = [
        Students.start(gain, 1.0, 1, 1, np.random.default_rng(2)) for gain in (Geometry(1.0, 3.0), Constant())
    ]
    ours, loras = (students.gradients(batch)[1] for students in starts)
    assert ours == pytest.approx(np.sinh(1.0) * loras, rel=1e-12)


def test_the_dose_is_the_products():
    settings = PlantedSettings()
    norms = torch.exp(0.6 * torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(4000.0) + 0.5) / 4000))
    expected = float(dose(gain_at_start(layer("direct", 0.7, 3.0, 1, 1, 1), norms)))
    assert dose_at_start("lorentz", settings) == pytest.approx(expected, abs=1e-4)
