"""Answers that vLLM writes: the same prompts, stop tokens and limit as ``generation.answer``'s."""

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.experiments.runs.generation import OnItems, Output
from manifold_lora.experiments.runs.stop_tokens import stop_ids, until_stop
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks.base import Example
from manifold_lora.experiments.training.encoding import encode_prompts
from manifold_lora.models.gguf_file import base_folder
from manifold_lora.models.saved.save import save_adapter

# One process, since that of a cell may start none; cells beside each other do not take one core; on a
# processor a gigabyte of cache. What the surroundings say counts.
_SURROUNDINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
# Ranks that vLLM has kernels for.
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class VllmAnswers:
    """vLLM in this process with the base of a model, and its adapter as it is now, saved and checked.

    Args:
        model: the model, adapted or not; its base was read from a folder or the hub.
        run: the settings: dtype, and how many requests go together.
        longest: tokens of the longest prompt and its answer together.

    Raises ManifoldLoraError for an adapter that cannot be served.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, run: RunSettings, longest: int) -> None:
        for name, value in _SURROUNDINGS.items():
            os.environ.setdefault(name, value)
        from vllm import LLM
        from vllm.lora.request import LoRARequest

        from manifold_lora.models.serving.plugin import register

        register()
        base: Any = model.get_base_model() if isinstance(model, PeftModel) else model
        options: dict[str, Any] = {}
        if isinstance(model, PeftModel):
            rank = next((rank for rank in _RANKS if rank >= run.adapter.rank), run.adapter.rank)
            options = {"enable_lora": True, "max_loras": 1, "max_lora_rank": rank}
        self._llm: Any = LLM(
            base_folder(base.config._name_or_path),
            dtype=run.model.dtype,
            max_model_len=longest,
            max_num_seqs=run.evaluation.batch_size,
            enable_prefix_caching=False,
            enforce_eager=True,
            generation_config="vllm",
            **options,
        )
        self._adapter: Any = None
        if isinstance(model, PeftModel):
            with TemporaryDirectory(prefix="manifold-lora-answers-") as folder:
                # Read once, here: while it answers, a refusal would end the engine.
                saved = save_adapter(model, Path(folder) / "adapter")
                self._adapter = LoRARequest("adapter", 1, str(saved))
                self._llm.llm_engine.add_lora(self._adapter)

    def __call__(
        self,
        model: PreTrainedModel | PeftModel,
        tokenizer: PreTrainedTokenizerBase,
        examples: Sequence[Example],
        batch_size: int,
        max_new_tokens: int,
        num_beams: int,
        on_items: OnItems,
    ) -> list[Output]:
        """As ``generation.answer``, greedily; ``on_items`` hears of the end."""
        from vllm import SamplingParams

        stops = stop_ids(tokenizer, model.generation_config)
        greedy = SamplingParams(
            temperature=0.0,
            max_tokens=max_new_tokens,
            stop_token_ids=stops,
            ignore_eos=True,
            detokenize=False,
        )
        prompts = encode_prompts(tokenizer, [example.prompt for example in examples])
        answered = self._llm.generate(
            [{"prompt_token_ids": ids} for ids in prompts],
            greedy,
            lora_request=self._adapter,
            use_tqdm=False,
        )
        written = [until_stop(one.outputs[0].token_ids, stops) for one in answered]
        texts = tokenizer.batch_decode([ids for ids, _ in written], skip_special_tokens=True)
        on_items(len(examples), len(examples))
        return [Output(text.strip(), not stop) for text, (_, stop) in zip(texts, written, strict=True)]
