"""A tiny Llama, adapters of every served arm on it, and what Hugging Face makes of ten prompts with each."""

import json
import os
import sys
from pathlib import Path

# Before torch and vLLM are imported: one process, one thread, a gigabyte of cache, and no network.
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
}
os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})

import torch  # noqa: E402
from peft import LoraConfig, get_peft_model  # noqa: E402
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast  # noqa: E402

from manifold_lora import ManifoldLoraConfig, save_adapter  # noqa: E402
from manifold_lora.models.calibration import calibrate  # noqa: E402
from manifold_lora.models.tiny import tiny_model, word_tokenizer  # noqa: E402

RANK, TOKENS = 8, 10
ARMS = {
    "lorentz": {"manifold": "lorentz", "curvature": {"mode": "learned", "kappa": -1.0}},
    "poincare": {"manifold": "poincare", "curvature": -1.0},
    "sphere": {"manifold": "sphere", "curvature": 0.5, "norm_scaling": "unit"},
    "released": {
        "manifold": "lorentz",
        "curvature": -1.0,
        "norm_scaling": "released",
        "curvature_pattern": {"layers\\.1\\..*q_proj": -0.5},
    },
    "token": {"manifold": "lorentz", "curvature": {"mode": "token"}},
    "tangent": {"manifold": "lorentz", "curvature": -1.0, "transform": "tangent"},
    "lora": None,
}
# How large B is: those that leave s out on the way back are that much smaller.
_SIZE = {"released": 3.0, "sphere": 1.0}
WORDS = [f"w{i}" for i in range(200)]
PROMPTS = [" ".join(WORDS[(7 * i + j * j) % 200] for j in range(5 + i)) for i in range(10)]


def build_base(folder: Path, seed: int = 0) -> Path:
    """Weights of such a size that answers differ; heads of 32 numbers, which vLLM's CPU attention wants."""
    tokenizer = word_tokenizer([" ".join(WORDS)])
    model = tiny_model(len(tokenizer), hidden_size=64, heads=2, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def build_adapter(base: Path, folder: Path, arm: str, seed: int = 0, rank: int = RANK, **parts: object):
    """An adapter with every number of it moved, saved; the adapted model."""
    options = None if ARMS.get(arm, {}) is None else {**ARMS.get(arm, {}), **parts}
    common = {"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear"}
    config = LoraConfig(**common) if options is None else ManifoldLoraConfig(**common, **options)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    if options is not None:
        calibrate(model, [{"input_ids": torch.tensor([tokenizer(" ".join(PROMPTS))["input_ids"][:100]])}])
    generator = torch.Generator().manual_seed(seed + len(arm))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = _SIZE.get(arm, 0.3) if "lora_B" in name else 0.3 if "lora_manifold" in name else None
            if size is not None:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    save_adapter(model, folder)
    return model


def answers(model, base: Path) -> list[list[list[float]]]:
    """Greedy tokens of Hugging Face and the logarithms of their probabilities, prompt by prompt."""
    tokenizer, found = PreTrainedTokenizerFast.from_pretrained(base), []
    for prompt in PROMPTS:
        ids, logs = torch.tensor([tokenizer(prompt)["input_ids"]]), []
        with torch.no_grad():
            for _ in range(TOKENS):
                likely = model(input_ids=ids).logits[0, -1].float().log_softmax(-1)
                token = int(likely.argmax())
                logs.append(float(likely[token]))
                ids = torch.cat([ids, torch.tensor([[token]])], 1)
        found.append([ids[0, -TOKENS:].tolist(), logs])
    return found


def build_all(root: Path) -> Path:
    """``root/base``, a folder for each arm, and ``root/answers.json``."""
    base, known = build_base(root / "base"), {}
    for arm in ARMS:
        model = build_adapter(base, root / arm, arm)
        known[arm] = answers(model, base)
        if arm == "lora":
            with model.disable_adapter():
                known["base"] = answers(model, base)
    (root / "answers.json").write_text(json.dumps(known))
    return root


def engine(root: Path, **options: object):
    """vLLM with the tiny model, three adapters at once and four in memory."""
    from vllm import LLM

    settings = {
        "max_loras": 3,
        "max_cpu_loras": 4,
        "max_lora_rank": RANK,
        "enable_lora": True,
        "enforce_eager": True,
        "dtype": "float32",
        "max_model_len": 64,
        "max_num_seqs": 16,
        "enable_prefix_caching": False,
    }
    return LLM(str(root / "base"), **{**settings, **options})


def generate(served, requests: list[tuple[str, object]]) -> list:
    """vLLM's outputs for (prompt, LoRARequest or None)."""
    from vllm import SamplingParams

    greedy = SamplingParams(temperature=0, max_tokens=TOKENS, logprobs=1, ignore_eos=True)
    prompts, adapters = [prompt for prompt, _ in requests], [adapter for _, adapter in requests]
    return served.generate(prompts, greedy, lora_request=adapters, use_tqdm=False)


def difference(wanted, outputs) -> float:
    """The largest difference of logprobs; infinite where a text is another."""
    worst = 0.0
    for (ids, logs), output in zip(wanted, outputs, strict=True):
        message = output.outputs[0]
        if list(message.token_ids) != ids:
            return float("inf")
        found = [step[token].logprob for step, token in zip(message.logprobs, ids, strict=True)]
        worst = max(worst, *(abs(one - other) for one, other in zip(found, logs, strict=True)))
    return worst


def mixed(served, root: Path, arms: list[str], first_id: int = 1) -> dict[str, float]:
    """All prompts under all arms and the base in one batch; the difference of each to Hugging Face."""
    from vllm.lora.request import LoRARequest

    known = json.loads((root / "answers.json").read_text())
    adapters = {arm: LoRARequest(arm, first_id + i, str(root / arm)) for i, arm in enumerate(arms)}
    asked = [(arm, prompt) for prompt in PROMPTS for arm in [*arms, "base"]]
    outputs = generate(served, [(prompt, adapters.get(arm)) for arm, prompt in asked])
    by_arm = {
        arm: [o for (other, _), o in zip(asked, outputs, strict=True) if other == arm] for arm, _ in asked
    }
    return {arm: difference(known[arm], outputs) for arm, outputs in by_arm.items()}


def main(root: str, *options: str) -> None:
    """In a process of its own: two workers; what ``mixed`` finds is printed as JSON."""
    sharded = "sharded" in options
    served = engine(Path(root), tensor_parallel_size=2, fully_sharded_loras=sharded)
    print("FOUND " + json.dumps(mixed(served, Path(root), list(ARMS))))


if __name__ == "__main__":
    main(*sys.argv[1:])
