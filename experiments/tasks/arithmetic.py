"""Generated word problems: the base knows one step and small numbers, the adapters learn the rest."""

from collections.abc import Iterator
from functools import cached_property
from random import Random

from manifold_lora.experiments.answers import equal_numbers, extract_number
from manifold_lora.experiments.tasks.base import BaseSpec, Document, Example, Scored, Splits, Task

_PEOPLE = ("tom", "mary", "sam", "jane", "mike", "sara", "joan", "fred")
_THINGS = ("apples", "books", "marbles", "cards", "pens", "shells")
_STEPS = {
    "+": ("{p} buys {n} more .", "{p} finds {n} .", "a friend gives {p} {n} ."),
    "-": ("{p} loses {n} .", "{p} sells {n} .", "{p} gives {n} away ."),
}
_SIZES = {"train": 4000, "validation": 200, "test": 500}


class Arithmetic(Task):
    """``tom has 12 apples . tom buys 7 more . tom loses 5 . how many ? => 12 + 7 = 19 - 5 = 14``.

    The base is pre-trained on problems of one step with numbers up to 49; adapters learn two steps and
    numbers up to 99. The answer is the last number.
    """

    name = "arithmetic"

    def __init__(self, seed: int = 0, style: str = "equation", limit: int | None = None) -> None:
        self._seed, self._style, self._limit = seed, style, limit

    @cached_property
    def splits(self) -> Splits:
        """Distinct problems, split at random."""
        random = Random(f"arithmetic-{self._seed}")
        problems: dict[str, tuple[str, int]] = {}
        while len(problems) < sum(_SIZES.values()):
            prompt, target, answer = _problem(random, steps=2, largest=99)
            problems[prompt] = target, answer
        found = [
            Example(f"arithmetic-{index}", f"{prompt} =>", target, str(answer), f"{len(str(answer))} digits")
            for index, (prompt, (target, answer)) in enumerate(problems.items())
        ]
        ends = _SIZES["train"], _SIZES["train"] + _SIZES["validation"]
        splits = Splits(found[: ends[0]], found[ends[0] : ends[1]], {self.name: found[ends[1] :]})
        return splits.first(self._limit)

    def score(self, example: Example, output: str) -> Scored:
        """The last number must be the answer."""
        found = extract_number(output)
        return Scored(found or "", equal_numbers(found, example.answer))

    @property
    def base_spec(self) -> BaseSpec:
        """A Llama of four layers that reads digits one by one."""
        return BaseSpec(
            hidden_size=128,
            layers=4,
            heads=4,
            intermediate_size=256,
            steps=800,
            batch_size=32,
            learning_rate=2e-3,
            max_positions=96,
            split_digits=True,
        )

    def pretraining_texts(self) -> Iterator[Document]:
        """Problems of one step."""
        random = Random(f"arithmetic-base-{self._seed}")
        for _ in range(20_000):
            prompt, target, _answer = _problem(random, steps=1, largest=49)
            yield Document(f"{prompt} => {target}", context=f"{prompt} =>")


def _problem(random: Random, steps: int, largest: int) -> tuple[str, str, int]:
    """A question, the worked answer, and the answer; no count falls below zero."""
    person, thing = random.choice(_PEOPLE), random.choice(_THINGS)
    total = random.randint(2, largest)
    sentences, worked = [f"{person} has {total} {thing} ."], f"{total}"
    for _ in range(steps):
        operator = random.choice("+-") if total else "+"
        amount = random.randint(1, largest if operator == "+" else total)
        total = total + amount if operator == "+" else total - amount
        sentences.append(random.choice(_STEPS[operator]).format(p=person, n=amount))
        worked += f" {operator} {amount} = {total}"
    return f"{' '.join(sentences)} how many ?", worked, total
