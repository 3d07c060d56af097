"""What ``evaluation.engine: vllm`` can answer by, checked before anything runs."""

from importlib.metadata import packages_distributions, version
from importlib.util import find_spec

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.settings.methods import has_geometry
from manifold_lora.experiments.settings.run import AdapterSettings, RunSettings

ENGINE, VLLM = "evaluation.engine", "vllm"


def check_engine(run: RunSettings) -> None:
    """Refuse vLLM where it is missing or unknown, and settings and an arm that it does not serve.

    Raises ManifoldLoraError.
    """
    if run.evaluation.engine != VLLM:
        return
    if find_spec(VLLM) is None:
        hint = "pip install 'manifold-lora[vllm]', in an environment of its own: docs/serving.md"
        raise ManifoldLoraError(ENGINE, VLLM, "what is installed; vllm is not", hint)
    from manifold_lora.models.serving.plugin import VERSIONS, is_known

    (name, *_) = packages_distributions()[VLLM]
    if not is_known(version(name)):
        known = ", ".join(f"vLLM {each}" for each in VERSIONS)
        raise ManifoldLoraError(
            ENGINE, f"{name} {version(name)}", known, "curved adapters are not served there"
        )
    if run.evaluation.num_beams != 1:
        raise ManifoldLoraError("evaluation.num_beams", run.evaluation.num_beams, "1 with engine vllm")
    if run.model.quantization != "none":
        raise ManifoldLoraError("model.quantization", run.model.quantization, "none with engine vllm")
    check_served_arm(run.adapter, run.arm)


def check_served_arm(settings: AdapterSettings, arm: str) -> None:
    """Refuse an arm that vLLM has no way to compute. Raises ManifoldLoraError."""
    what, hint = f"arm for {ENGINE} vllm", "engine transformers answers by every arm"
    if not has_geometry(settings.method):
        if settings.method != "lora" or settings.lora_bias:
            raise ManifoldLoraError(what, arm, "LoRA without a bias, or a curved arm", hint)
        return
    if settings.weight_manifold is not None:
        raise ManifoldLoraError(what, arm, "an arm without adapter.weight_manifold", hint)
    # Imported late: torch is loaded, which the other checks do without.
    from manifold_lora.adapters.layer_map import layer_map
    from manifold_lora.adapters.update import ManifoldUpdate
    from manifold_lora.experiments.methods.config import adapter_spec
    from manifold_lora.models.serving.gain import check_served

    spec = adapter_spec(settings)
    for each in (spec, *layer_map(spec, settings.manifold_pattern).values()):
        try:
            check_served(ManifoldUpdate.from_spec(each, 64, 64, 4))
        except ManifoldLoraError as error:
            raise ManifoldLoraError(what, f"{arm}: {error.got}", error.allowed, hint) from error
