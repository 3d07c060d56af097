"""Test questions among the training rows: found by their letters and digits, whatever their punctuation."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.rows import question_of

Policy = Literal["refuse", "drop", "allow"]


class LeakError(ManifoldLoraError):
    """Training rows whose question is in a test set."""


def normalise(question: str) -> str:
    """Letters and digits alone, lower-case, choices left out: where two agree, they are one question."""
    return "".join(filter(str.isalnum, question_of(question).casefold()))


def mask_numbers(question: str) -> str:
    """Letters alone: equal in questions that differ in their numbers and in nothing else."""
    return "".join(mark for mark in normalise(question) if not mark.isdecimal())


@dataclass(frozen=True)
class Leaks:
    """What training and tests share: by test set, its rows that are trained on; and the training rows in it.

    ``tested`` and ``trained`` hold places in the sequences that were compared; sets without a leak are there,
    empty.
    """

    tested: Mapping[str, tuple[int, ...]]
    trained: Mapping[str, tuple[int, ...]]

    @property
    def found(self) -> bool:
        """Whether there is any."""
        return any(self.tested.values())

    @property
    def rows(self) -> frozenset[int]:
        """The training rows in any test set."""
        return frozenset(place for places in self.trained.values() for place in places)

    def also_in(self, place: int) -> list[str]:
        """The test sets that hold the question of one training row."""
        return [name for name, places in self.trained.items() if place in places]

    def __str__(self) -> str:
        counts = [
            f"{name}: {len(places)} test rows in {len(self.trained[name])} training rows"
            for name, places in self.tested.items()
            if places
        ]
        return ", ".join(counts) or "none"


def find_leaks(
    train: Iterable[str], tests: Mapping[str, Sequence[str]], key: Callable[[str], str] = normalise
) -> Leaks:
    """Compare the questions of training rows with those of every test set.

    Args:
        train: the question of every training row, choices included or not.
        tests: name of a test set -> its questions.
        key: what of a question counts.
    """
    learned: dict[str, list[int]] = {}
    for place, question in enumerate(train):
        learned.setdefault(key(question), []).append(place)
    tested = {
        name: tuple(place for place, question in enumerate(questions) if key(question) in learned)
        for name, questions in tests.items()
    }
    keys = {name: {key(tests[name][place]) for place in places} for name, places in tested.items()}
    trained = {
        name: tuple(sorted(place for each in among for place in learned[each]))
        for name, among in keys.items()
    }
    return Leaks(tested, trained)


def apply_policy(leaks: Leaks, policy: Policy, rows: str) -> frozenset[int]:
    """The training rows to leave out under ``drop``; none under ``allow``.

    Args:
        leaks: what was found.
        policy: ``refuse``, ``drop`` or ``allow``.
        rows: what they are, for the message (``"train rows of mawps"``).

    Raises LeakError under ``refuse`` if there is any leak.
    """
    if policy == "refuse" and leaks.found:
        hint = "task.leaks: drop leaves those rows out; allow trains on them and says so"
        raise LeakError(f"{rows} in a test set", str(leaks), "none", hint)
    return leaks.rows if policy == "drop" else frozenset()
