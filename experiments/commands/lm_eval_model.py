"""EleutherAI's lm-evaluation-harness on a saved adapter (extra ``lm_eval``), under the name manifold-lora.

``python -m manifold_lora.experiments.commands.lm_eval_model run --model manifold-lora
--model_args adapter=FOLDER --tasks gsm8k`` is ``lm_eval`` with that name known.
"""

from typing import Any

import torch
from lm_eval.__main__ import cli_evaluate
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM

from manifold_lora.models.load import load_adapter, load_base, load_tokenizer

NAME = "manifold-lora"


@register_model(NAME)
class ManifoldLora(HFLM):
    """A base model with an adapter of ours or of peft, loaded with the checks of ``load_adapter``.

    Args:
        adapter: the folder that ``manifold-lora train`` saved (``OUTPUT/adapter``), or a hub name.
        pretrained: the base model, a folder or hub name; by default the one the adapter names.
        device: where to put it; by default the GPU if there is one.
        dtype: of the base's weights.
        options: passed on to the harness's own model class (batch_size, max_length, ...).

    Raises ManifoldLoraError for an adapter or base that does not load whole.
    """

    def __init__(
        self,
        adapter: str,
        pretrained: str | None = None,
        device: str | None = None,
        dtype: str = "auto",
        **options: Any,
    ) -> None:
        place = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if pretrained is None:
            model = load_adapter(adapter, dtype=dtype, device=place)
            name = str(model.peft_config["default"].base_model_name_or_path)
            tokenizer = load_tokenizer(name)
        else:
            base, tokenizer = load_base(pretrained, dtype=dtype, device=place)
            model = load_adapter(adapter, base)
        super().__init__(pretrained=model.eval(), tokenizer=tokenizer, **options)


if __name__ == "__main__":
    cli_evaluate()
