"""What a perfect model would score: the task's own gold texts through token limit, stop tokens and reader."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.answers.statement import finished
from manifold_lora.experiments.results.accuracy import percent
from manifold_lora.experiments.runs.stop_tokens import stop_ids, until_stop
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks.base import Example, Task
from manifold_lora.experiments.training.encoding import training_rows

_FIRST_FEW = 5


@dataclass(frozen=True)
class SetCeiling:
    """What a perfect model would score on one set.

    ``score`` is the share of gold texts that are read back as the right answer (None where the set has none),
    ``longest`` the tokens of the longest one and ``needed`` the token limit that lets it end. ``cut`` names
    the items whose text is longer than the limit, ``unread`` those whose whole text is read as another
    answer: a fault of the data.
    """

    score: float | None
    longest: int = 0
    cut: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    @property
    def needed(self) -> int:
        """The longest gold text and its stop token."""
        return self.longest + 1


@dataclass(frozen=True)
class Ceiling:
    """The ceilings of a task's sets (``train``, ``validation`` and tests) under ``max_new_tokens``."""

    sets: dict[str, SetCeiling]
    max_new_tokens: int

    @cached_property
    def below(self) -> dict[str, SetCeiling]:
        """The sets on which a perfect model would not be right everywhere."""
        return {name: each for name, each in self.sets.items() if each.score is not None and each.score < 1}

    def scores(self) -> dict[str, float]:
        """Set -> what a perfect model would score."""
        return {name: each.score for name, each in self.sets.items() if each.score is not None}

    def check(self, preflight: str = "stop", tell: Callable[[str], None] = print) -> None:
        """Raise ManifoldLoraError with the figures if a score is below 1; with ``warn``, tell it."""
        if not self.below:
            return
        if preflight != "warn":
            raise self._error()
        tell(f"warning: {self._error()}")

    def _error(self) -> ManifoldLoraError:
        scores = ", ".join(f"{percent(each.score or 0.0)} % on {name}" for name, each in self.below.items())
        hint = f"a perfect model would score {scores}"
        faults = [f"{name} {item}" for name, each in self.below.items() for item in each.unread]
        if faults:
            some = ", ".join(faults[:_FIRST_FEW]) + (", ..." if len(faults) > _FIRST_FEW else "")
            hint += f"; the whole gold text is read as another answer in {some}"
        hint += "; --preflight warn goes on"
        if any(each.cut for each in self.below.values()):
            needed = max(each.needed for each in self.sets.values())
            allowed = f"at least {needed}, or none: then it is derived"
            return ManifoldLoraError("evaluation.max_new_tokens", self.max_new_tokens, allowed, hint)
        allowed = "texts that are read as their item's answer"
        return ManifoldLoraError("gold texts of the task", f"{len(faults)} that are not", allowed, hint)


def ceiling(
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    run: RunSettings,
    *,
    learned: Sequence[Example] | None = None,
    stops: Sequence[int] | None = None,
) -> Ceiling:
    """Teach the gold texts, answer by them, read the answers.

    Args:
        task: whose sets; of a test set without targets, sentences that state the answer.
        tokenizer: the model's.
        run: its ``evaluation.max_new_tokens`` (None: the longest gold text and a quarter),
            ``evaluation.limit`` and ``train.max_length``.
        learned: the training rows that are not too long, where they are known.
        stops: what ends an answer; by default what the tokenizer says alone.
    """
    if learned is None:
        learned = training_rows(tokenizer, task.train, run.train.max_length).examples
    stops = stop_ids(tokenizer) if stops is None else stops
    asked = {name: items[: run.evaluation.limit] for name, items in _evaluated(task).items()}
    golds = {name: _Gold(task, tokenizer, items) for name, items in {"train": learned, **asked}.items()}
    longest = max(gold.longest for gold in golds.values())
    limit = run.evaluation.max_new_tokens or longest + 1 + max(4, longest // 4)
    return Ceiling({name: gold.ceiling(limit, stops) for name, gold in golds.items()}, limit)


def checked_ceiling(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    run: RunSettings,
    tell: Callable[[str], None] = print,
    learned: Sequence[Example] | None = None,
) -> Ceiling:
    """The ceiling under the model's own stop tokens, checked as ``run.preflight`` says."""
    stops = stop_ids(tokenizer, model.generation_config)
    found = ceiling(task, tokenizer, run, learned=learned, stops=stops)
    found.check(run.preflight, tell)
    return found


def _evaluated(task: Task) -> dict[str, list[Example]]:
    return {"validation": task.validation, **task.tests}


class _Gold:
    """The gold texts of a set as token ids, as a model that has learned them writes them."""

    def __init__(self, task: Task, tokenizer: PreTrainedTokenizerBase, examples: Sequence[Example]) -> None:
        self.task, self.tokenizer = task, tokenizer
        known = [(example, text) for example in examples if (text := task.gold(example))]
        self.examples = [example for example, _ in known]
        texts = [text for _, text in known]
        self.ids = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        self.longest = max(map(len, self.ids), default=0)

    def ceiling(self, limit: int, stops: Sequence[int]) -> SetCeiling:
        """The share that is read back, and what is not."""
        if not self.examples:
            return SetCeiling(None)
        cut = [len(ids) + 1 > limit for ids in self.ids]
        written = [until_stop(ids[:limit], stops)[0] for ids in self.ids]
        right = self._right(written, cut)
        wrong = [place for place, each in enumerate(right) if not each]
        uncut = [until_stop(ids, stops)[0] for ids in self.ids]
        whole = self._right(uncut, [False] * len(uncut)) if wrong else []
        return SetCeiling(
            sum(right) / len(right),
            self.longest,
            tuple(self.examples[place].id for place, each in enumerate(cut) if each),
            tuple(self.examples[place].id for place in wrong if not whole[place]),
        )

    def _right(self, written: list[list[int]], cut: list[bool]) -> list[bool]:
        texts = (text.strip() for text in self.tokenizer.batch_decode(written, skip_special_tokens=True))
        read = (finished(text) if each else text for text, each in zip(texts, cut, strict=True))
        return [
            bool(text) and self.task.is_right(example, text)
            for example, text in zip(self.examples, read, strict=True)
        ]
