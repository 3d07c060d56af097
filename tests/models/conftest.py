"""Tiny random models of the supported families, saved to disk once per session with a real tokenizer."""

import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from manifold_lora.models.tuner.config import ManifoldLoraConfig

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode does not make packages.py importable

VOCABULARY = 64
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**_SHAPE),
    # Wide enough for bitsandbytes' kernels for AVX-512: whole blocks of 64 inputs, 32 outputs.
    "llama-64": lambda: LlamaConfig(**{**_SHAPE, "hidden_size": 64, "intermediate_size": 64}),
    "gemma": lambda: GemmaConfig(**_SHAPE, head_dim=8),
    "gemma3": lambda: Gemma3TextConfig(**_SHAPE, head_dim=8, sliding_window=16),
    "qwen2": lambda: Qwen2Config(**_SHAPE),
    "mistral": lambda: MistralConfig(**_SHAPE),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
    "mixtral": lambda: MixtralConfig(**_SHAPE, num_local_experts=2, num_experts_per_tok=1),
}


@pytest.fixture(autouse=True)
def third_party_warnings() -> Iterator[None]:
    """Let pass what peft 0.21 does to transformers 5.23 and torch 2.13 and no caller can change."""
    with warnings.catch_warnings():
        # peft asks a model for is_gradient_checkpointing; TRL's configuration sets gradient_checkpointing.
        warnings.filterwarnings("ignore", "`(is_)?gradient_checkpointing` is deprecated", FutureWarning)
        yield


@pytest.fixture(autouse=True)
def same_start() -> None:
    torch.manual_seed(0)


def build_tokenizer() -> PreTrainedTokenizerFast:
    words = ["<pad>", "<bos>", "<eos>", "<unk>", *(f"w{i}" for i in range(VOCABULARY - 4))]
    core = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``model_folder("llama")``: the folder of a random model of that family, built at first use."""
    root = tmp_path_factory.mktemp("model folders é")

    def folder(family: str) -> Path:
        path = root / family
        if not path.exists():
            # A test that is the first to ask for it draws what it would draw later.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(7)
                AutoModelForCausalLM.from_config(FAMILIES[family]()).save_pretrained(path)
            build_tokenizer().save_pretrained(path)
        return path

    return folder


@pytest.fixture
def base(model_folder: Callable[[str], Path]) -> Callable[..., PreTrainedModel]:
    """``base("gpt2")``: a fresh copy of that family's model."""
    return lambda family="llama", **options: AutoModelForCausalLM.from_pretrained(
        model_folder(family), **options
    )


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(4, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(3))


@pytest.fixture
def shake() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """``shake(model)`` moves every adapter parameter off its start: updates are non-zero and curved."""

    def move(model: torch.nn.Module, scale: float = 0.2) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(11)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if ".lora_" in name:
                    parameter.add_(scale * torch.randn(parameter.shape, generator=generator).to(parameter))
        return model

    return move


@pytest.fixture
def adapted(base: Callable[..., PreTrainedModel]) -> Callable[..., PeftModel]:
    """``adapted("gemma", transform="boost")``: a fresh model of a family with an adapter."""

    def build(family: str = "llama", **options: object) -> PeftModel:
        targets = ["c_attn", "c_fc"] if family == "gpt2" else ["q_proj", "v_proj"]
        config = {"r": 4, "task_type": "CAUSAL_LM", "target_modules": targets, **options}
        return get_peft_model(base(family), ManifoldLoraConfig(**config))

    return build
