"""The tokens that end an answer: of the tokenizer, the generation config and the chat template."""

from collections.abc import Sequence

from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedTokenizerBase


def stop_ids(tokenizer: PreTrainedTokenizerBase, generation: GenerationConfig | None = None) -> list[int]:
    """Every id at which generation stops, in ascending order; empty for a tokenizer without an end.

    Args:
        tokenizer: its ``eos_token_id``, and the end of a turn in its chat template, if it has one.
        generation: the model's ``generation_config``, whose ``eos_token_id`` is one id or several.
    """
    stated = getattr(generation, "eos_token_id", None)
    several = stated if isinstance(stated, Sequence) else [stated]
    return sorted({i for i in (tokenizer.eos_token_id, _end_of_turn(tokenizer), *several) if i is not None})


def until_stop(ids: Sequence[int], stops: Sequence[int]) -> tuple[list[int], bool]:
    """The ids before the first stop, and whether there is one."""
    end = next((place for place, token in enumerate(ids) if token in stops), None)
    return list(ids[:end]), end is not None


def _end_of_turn(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the chat template writes behind what the assistant says."""
    if not tokenizer.chat_template:
        return None
    said = "ANSWER"
    messages = [{"role": "user", "content": "QUESTION"}, {"role": "assistant", "content": said}]
    try:
        text = str(tokenizer.apply_chat_template(messages, tokenize=False))
    except (TemplateError, ValueError, TypeError):
        return None  # a template of other roles
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    for token in tokenizer(text.rpartition(said)[2], add_special_tokens=False)["input_ids"]:
        if token in special:
            return int(token)
        if str(tokenizer.decode([token])).strip():
            return None
    return None
