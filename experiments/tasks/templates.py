"""How an instruction becomes a prompt: plain, Alpaca's frame, or the model's own chat template."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from manifold_lora.errors import ManifoldLoraError


def _no_turns(messages: Sequence[Mapping[str, str]]) -> str:
    raise ManifoldLoraError("messages", f"{len(messages)} turns", "one question", "use task.template: chat")


@dataclass(frozen=True)
class Template:
    """``render(instruction)`` is the prompt; a target follows it behind ``lead``.

    ``conversation(messages)`` is the prompt of several turns, of templates that have turns.
    """

    name: str
    render: Callable[[str], str]
    lead: str = ""
    conversation: Callable[[Sequence[Mapping[str, str]]], str] = field(default=_no_turns, repr=False)

    def target(self, output: str) -> str:
        """What is learned to follow the prompt."""
        return self.lead + output


def _plain(instruction: str) -> str:
    return f"Question: {instruction}\nAnswer:"


def _alpaca(instruction: str) -> str:
    return (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n\n"
        f"### Instruction:\n{instruction}\n\n### Response:\n"
    )


PLAIN = Template("plain", _plain, lead=" ")
# Taori et al., Stanford Alpaca, 2023; the frame that LLM-Adapters and HypLoRA train in.
ALPACA = Template("alpaca", _alpaca)


def template_of(name: str, model: str) -> Template:
    """The template under ``name`` for a model: a folder or hub name, whose tokenizer ``chat`` reads.

    Raises ManifoldLoraError for an unknown name, or for ``chat`` with a model that has no chat template.
    """
    if name == "chat":
        return _chat(model)
    known = {template.name: template for template in (PLAIN, ALPACA)}
    if name not in known:
        raise ManifoldLoraError("prompt template", name, (*known, "chat"))
    return known[name]


def _chat(model: str) -> Template:
    from manifold_lora.models.load import load_tokenizer

    tokenizer = load_tokenizer(model)
    if not tokenizer.chat_template:
        hint = "use task.template: alpaca or plain"
        raise ManifoldLoraError("chat template of model", model, "a tokenizer that has one", hint)
    # Prompts are encoded with special tokens: a start that the template writes would stand there twice.
    start = tokenizer.bos_token or ""
    doubled = bool(start) and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]

    def conversation(messages: Sequence[Mapping[str, str]]) -> str:
        turns = [dict(message) for message in messages]
        text = str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        return text.removeprefix(start) if doubled else text

    def render(instruction: str) -> str:
        return conversation([{"role": "user", "content": instruction}])

    return Template("chat", render, conversation=conversation)
