"""What every task is: examples to train on, sets to be judged by, and a score for one answer."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from manifold_lora.experiments.answers.read import Scored


@dataclass(frozen=True)
class Example:
    """One item: the text given, the text wanted, and the answer it is judged by.

    ``numbers`` holds the quantities that N0, N1, ... of the prompt stand for; ``choices`` what an answer is
    chosen from; ``group`` is the stratum that reports break scores down by (answer depth, number of steps).
    Examples of one ``cluster`` ask the same in other words: statistics count them as one.
    Where ``learn_prompt`` is set, the loss counts the prompt as well as the target.
    """

    id: str
    prompt: str
    target: str
    answer: str
    group: str = ""
    numbers: tuple[float, ...] = ()
    choices: tuple[str, ...] = ()
    learn_prompt: bool = False
    cluster: str = ""


@dataclass(frozen=True)
class Document:
    """A pre-training text; the loss counts from the end of ``context`` on (all of it, by default)."""

    text: str
    context: str = ""


@dataclass(frozen=True)
class BaseSpec:
    """The embedded base of a task as plain data: a tiny Llama and the recipe it is pre-trained by."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    steps: int
    batch_size: int
    learning_rate: float
    max_positions: int = 128
    weight_decay: float = 0.01
    warmup_ratio: float = 0.05
    seed: int = 0
    lowercase: bool = False
    split_digits: bool = False
    min_count: int = 1


@dataclass(frozen=True)
class Splits:
    """The examples of a task: to learn from, to choose by, and to be judged by (by name of test set)."""

    train: list[Example]
    validation: list[Example]
    tests: dict[str, list[Example]]

    def first(self, limit: int | None) -> "Splits":
        """The same splits with at most ``limit`` examples in each."""
        tests = {name: items[:limit] for name, items in self.tests.items()}
        return Splits(self.train[:limit], self.validation[:limit], tests)


class Task(ABC):
    """Examples for training, validation and test, the score of an output, and the base they start from.

    A task is a function of its seed and its files alone: every arm and every training seed sees the same
    items, which is what paired tests need.
    """

    name: str

    @property
    @abstractmethod
    def splits(self) -> Splits:
        """The three disjoint splits."""

    @abstractmethod
    def score(self, example: Example, output: str) -> Scored:
        """Judge an output; any string is answered, none raises."""

    def is_right(self, example: Example, output: str) -> bool:
        """As ``score`` decides; a task with a second reader need not ask it for this."""
        return self.score(example, output).correct

    def gold(self, example: Example) -> str | None:
        """What a perfect model writes behind the prompt, or None where only the answer is known.

        The example's target by default; a task of texts states the answer where there is no target.
        """
        return example.target or None

    @property
    @abstractmethod
    def base_spec(self) -> BaseSpec:
        """The embedded base model and its recipe."""

    @abstractmethod
    def pretraining_texts(self) -> Iterator[Document]:
        """The documents the embedded base is pre-trained on, in a fixed order."""

    @property
    def data_hashes(self) -> dict[str, str]:
        """File name -> sha256 of every file read; empty for generated tasks."""
        return {}

    @property
    def notes(self) -> dict[str, int]:
        """Counts a report should state: rows left out and why."""
        return {}

    @property
    def train(self) -> list[Example]:
        """The examples adapters learn from."""
        return self.splits.train

    @property
    def validation(self) -> list[Example]:
        """The examples learning rates are chosen by; disjoint from train and tests."""
        return self.splits.validation

    @property
    def tests(self) -> dict[str, list[Example]]:
        """Name of a test set -> its examples; only ever scored, never chosen by."""
        return self.splits.tests
