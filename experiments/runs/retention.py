"""What a base keeps of other text while it is adapted: its likelihood before and after."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.runs.likelihood import row_nlls
from manifold_lora.experiments.settings.run import AUTO, EMBEDDED, NONE, RunSettings
from manifold_lora.experiments.tasks.base import Document, Example, Task
from manifold_lora.experiments.training.encoding import IGNORED, Encoded, encode_prompts

# English prose that was written for this package, so that neither a base nor a task has read it.
PLAIN = Path(__file__).parents[1] / "examples" / "plain.txt"
# Passages that are drawn from longer texts, the same ones for every cell.
_MOST, _SEED = 64, 0


@dataclass(frozen=True)
class Retention:
    """The likelihood of plain text that no training row holds, in nats a token.

    nll = -1/N sum over passages and their tokens of log p(token | the tokens before it), N tokens in all, the
    first of a passage and what its ``context`` says not counted. ``forgetting`` is nll after adaptation minus
    nll of the base: 0 where nothing of it was lost, below 0 where the text became likelier. Retained ability
    beside the score of a task: Huang et al., PEFT-Arena (arXiv 2605.28819).

    Args:
        text: where the passages are from.
        rows: their token ids, with labels where the sum counts.
        before: nll of the base.
        nll: a model's nll of the rows.
    """

    text: str
    rows: Sequence[Encoded]
    before: float
    nll: Callable[[PeftModel], float]

    @classmethod
    def of_base(
        cls, model: PeftModel, tokenizer: PreTrainedTokenizerBase, task: Task, run: RunSettings
    ) -> "Retention | None":
        """Measure the base under the adapter; None where ``evaluation.retention`` is none.

        Raises ManifoldLoraError for a file without a passage that no training row holds.
        """
        if run.evaluation.retention == NONE:
            return None
        name, documents = _documents(task, run)
        kept = unseen(documents, task.train)
        longest = min(run.train.max_length, _positions(model))
        rows = [row for row in encode_documents(tokenizer, kept, longest) if row["labels"][-1] != IGNORED]
        if not rows:
            allowed = "a file of passages, a blank line between them, that no training row holds"
            raise ManifoldLoraError("evaluation.retention", name, allowed)
        nll = partial(nats_a_token, tokenizer=tokenizer, rows=rows, batch_size=run.evaluation.batch_size)
        with model.disable_adapter():
            return cls(name, rows, nll(model), nll)

    def record(self, model: PeftModel) -> dict[str, Any]:
        """Before, after and forgetting, the text and its size; None for a figure that is not finite."""
        after = self.nll(model)
        figures = {"before": self.before, "after": after, "forgetting": after - self.before}
        finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        return {"text": self.text, "passages": len(self.rows), "tokens": _tokens(self.rows), **finite}


def nats_a_token(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Encoded], batch_size: int
) -> float:
    """The negative log-likelihood of the rows' labels over their number."""
    return math.fsum(row_nlls(model, tokenizer, rows, batch_size)) / _tokens(rows)


def unseen(documents: Sequence[Document], train: Sequence[Example]) -> list[Document]:
    """The documents that no training row holds and that hold none; case and blanks do not count."""
    rows = {_key(f"{row.prompt} {row.target}") for row in train}
    learned = "\n".join(rows)
    return [
        one
        for one in documents
        if (text := _key(one.text)) not in learned and not any(row in text for row in rows)
    ]


def encode_documents(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[Document], longest: int
) -> list[Encoded]:
    """Token ids, cut after ``longest``; labels behind the context, or behind the first token."""
    texts, contexts = [one.text for one in documents], [one.context for one in documents]
    starts = [
        max(1, len(ids)) if context else 1
        for ids, context in zip(encode_prompts(tokenizer, contexts), contexts, strict=True)
    ]
    return [
        Encoded(input_ids=ids[:longest], labels=[IGNORED] * min(start, longest) + ids[start:longest])
        for ids, start in zip(encode_prompts(tokenizer, texts), starts, strict=True)
    ]


def _documents(task: Task, run: RunSettings) -> tuple[str, list[Document]]:
    """The text's name and its passages: of the file, of the embedded base's own reading, or our prose."""
    stated = run.evaluation.retention
    if stated == AUTO and run.model.name == EMBEDDED:
        documents = list(task.pretraining_texts())
        return "pre-training text", Random(_SEED).sample(documents, min(_MOST, len(documents)))
    path = PLAIN if stated == AUTO else Path(stated)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifoldLoraError("evaluation.retention", stated, "a UTF-8 text file", str(error)) from error
    passages = [" ".join(passage.split()) for passage in text.split("\n\n")]
    return path.name, [Document(passage) for passage in passages if passage][:_MOST]


def _positions(model: PeftModel) -> int:
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31)


def _tokens(rows: Sequence[Encoded]) -> int:
    return sum(label != IGNORED for row in rows for label in row["labels"])


def _key(text: str) -> str:
    return " ".join(text.casefold().split())
