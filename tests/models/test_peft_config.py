"""The configuration: what it accepts, what it refuses and how it survives a file."""

import pytest
from peft import LoraConfig, PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from manifold_lora.adapters.spec import BOOST, HYPLORA, LORA, TANGENT
from manifold_lora.errors import (
    CurvatureError,
    LinearOnlyError,
    ManifoldLoraError,
    UnknownNameError,
)
from manifold_lora.models.tuner.config import ManifoldLoraConfig
from manifold_lora.models.tuner.model import ManifoldLoraModel
from manifold_lora.models.tuner.registration import MANIFOLD_LORA, declare_peft_type


def test_the_default_is_hyplora():
    assert ManifoldLoraConfig().spec() == HYPLORA


def test_the_method_is_registered_beside_lora_and_not_over_it():
    assert PEFT_TYPE_TO_TUNER_MAPPING[MANIFOLD_LORA] is ManifoldLoraModel
    assert PEFT_TYPE_TO_CONFIG_MAPPING[PeftType("MANIFOLD_LORA")] is ManifoldLoraConfig
    assert PEFT_TYPE_TO_TUNER_MAPPING[PeftType.LORA] is not ManifoldLoraModel
    assert LoraConfig().peft_type == PeftType.LORA


def test_declaring_a_type_twice_gives_the_same_member():
    assert declare_peft_type("MANIFOLD_LORA") is MANIFOLD_LORA
    assert list(PeftType).count(MANIFOLD_LORA) == 1


@pytest.mark.parametrize("preset", [LORA, TANGENT, HYPLORA, BOOST], ids=str)
def test_a_preset_survives_the_config_and_its_file(preset, tmp_path):
    config = ManifoldLoraConfig.from_spec(preset, r=5, target_modules=["q_proj"])
    assert config.spec() == preset
    config.save_pretrained(tmp_path)
    again = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(again, ManifoldLoraConfig)
    assert (again.spec(), again.r, again.target_modules) == (preset, 5, {"q_proj"})


@pytest.mark.parametrize("curvature", [None, -0.25, {"mode": "learned", "kappa": -2.0}], ids=str)
def test_curvature_survives_the_file(curvature, tmp_path):
    config = ManifoldLoraConfig(curvature=curvature)
    config.save_pretrained(tmp_path)
    assert PeftConfig.from_pretrained(str(tmp_path)).spec() == config.spec()


LINEAR_ONLY = {
    "init_lora_weights": "pissa",
    "use_dora": True,
    "use_qalora": True,
    "lora_bias": True,
    "alora_invocation_tokens": [1, 2],
    "target_parameters": ["experts.gate_up_proj"],
    "loftq_config": {"loftq_bits": 4},
    "ensure_weight_tying": True,
}


@pytest.mark.parametrize("option", LINEAR_ONLY)
def test_options_of_plain_lora_are_refused_by_name(option):
    with pytest.raises(LinearOnlyError, match=option):
        ManifoldLoraConfig(**{option: LINEAR_ONLY[option]})


@pytest.mark.parametrize(
    "init", ["pissa_niter_4", "olora", "corda", "eva", "loftq", "orthogonal", "mica", "lora_ga"]
)
def test_initialisations_that_split_the_base_weight_are_refused(init):
    with pytest.raises(LinearOnlyError, match="init_lora_weights"):
        ManifoldLoraConfig(init_lora_weights=init)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"r": 0}, ManifoldLoraError, "at least 1"),
        ({"r": 2.0}, ManifoldLoraError, "an integer"),
        ({"r": True}, ManifoldLoraError, "an integer"),
        ({"rank_pattern": {"q_proj": -1}}, ManifoldLoraError, "rank_pattern"),
        ({"lora_alpha": float("nan")}, ManifoldLoraError, "finite"),
        ({"alpha_pattern": {"q_proj": 0}}, ManifoldLoraError, "alpha_pattern"),
        ({"alpha_pattern": 3}, ManifoldLoraError, "a mapping"),
        ({"lora_dropout": 1.0}, ManifoldLoraError, "lora_dropout"),
        ({"lora_dropout": "x"}, ManifoldLoraError, "lora_dropout"),
        ({"manifold": "lorenz"}, UnknownNameError, "did you mean 'lorentz'"),
        ({"transform": "directt"}, UnknownNameError, "did you mean 'direct'"),
        ({"norm_scaling": "learnt"}, UnknownNameError, "learned"),
        (
            {"manifold": "poincare", "transform": "boost"},
            ManifoldLoraError,
            "allowed: direct, norm_blind",
        ),
        ({"curvature": 1.0}, CurvatureError, "lorentz"),
        ({"manifold": "sphere", "curvature": -1.0}, CurvatureError, "sphere"),
        ({"curvature": float("inf")}, CurvatureError, "finite"),
        (
            {"manifold": {"name": "lorentz", "curvature": -1.0}, "curvature": -2.0},
            ManifoldLoraError,
            "one place",
        ),
    ],
    ids=str,
)
def test_bad_values_are_reported_as_asked_got_allowed(options, error, message):
    with pytest.raises(error, match=message):
        ManifoldLoraConfig(**options)
