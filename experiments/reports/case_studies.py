"""Items that two arms answer differently, side by side."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from manifold_lora.experiments.reports.matrices import Items
from manifold_lora.experiments.reports.row import ArmRow

LIMIT = 4


@dataclass(frozen=True)
class Case:
    """One item: by seed, what each of the two arms wrote, where one of them alone is right."""

    test: str
    id: str
    prompt: str
    answer: str
    group: str
    outputs: tuple[tuple[int, dict[str, Any], dict[str, Any]], ...]

    def alone(self, first: bool) -> int:
        """Seeds in which only the first arm is right, or only the second."""
        return sum(
            ours["correct"] != theirs["correct"] and bool(ours["correct"]) == first
            for _, ours, theirs in self.outputs
        )

    @property
    def balance(self) -> int:
        """Seeds in which only the first arm is right, minus those in which only the second is."""
        return self.alone(True) - self.alone(False)


@dataclass(frozen=True)
class CaseStudy:
    """The disagreements of two arms: how many answers, and the cases that are shown.

    ``won`` and ``lost`` count answers (items x seeds) that the first or the second alone got right, of
    ``answers``; ``items`` counts the items they are about.
    """

    arm: str
    other: str
    won: int
    lost: int
    answers: int
    items: int
    shown: tuple[Case, ...]


def case_studies(rows: Sequence[ArmRow], items: Items, limit: int = LIMIT) -> Iterator[CaseStudy]:
    """Each geometry beside the arms it is compared with as baseline and as control of gain.

    Args:
        limit: cases shown of each direction; those that go the same way in the most seeds come first, then
            by id, so that nobody picked them.
    """
    labelled = {row.label: row for row in rows}
    for row in rows:
        others = dict.fromkeys(
            item.other
            for item in row.comparisons
            if item.role in ("baseline", "gain") and row.role == "geometry"
        )
        for other in others:
            yield _study(row, labelled[other], items, limit)


def _study(row: ArmRow, other: ArmRow, items: Items, limit: int) -> CaseStudy:
    sides: dict[tuple[str, str], list[tuple[int, dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    answers = 0
    for seed in sorted(row.chosen.records.keys() & other.chosen.records.keys()):
        theirs = _tests(items(other.chosen.records[seed]["cell"]))
        for key, item in _tests(items(row.chosen.records[seed]["cell"])).items():
            if key in theirs:
                answers += 1
                sides[key].append((seed, item, theirs[key]))
    cases = [_case(key, outputs) for key, outputs in sides.items() if _differ(outputs)]
    won, lost = (sum(case.alone(first) for case in cases) for first in (True, False))
    cases.sort(key=lambda case: (-abs(case.balance), case.test, case.id))
    shown = [
        *[case for case in cases if case.balance > 0][:limit],
        *[case for case in cases if case.balance < 0][:limit],
    ]
    return CaseStudy(row.label, other.label, won, lost, answers, len(cases), tuple(shown))


def _tests(items: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["set"], item["id"]): item for item in items if item["set"] != "validation"}


def _differ(outputs: Sequence[tuple[int, dict[str, Any], dict[str, Any]]]) -> bool:
    return any(ours["correct"] != theirs["correct"] for _, ours, theirs in outputs)


def _case(key: tuple[str, str], outputs: list[tuple[int, dict[str, Any], dict[str, Any]]]) -> Case:
    _, item, _ = outputs[0]
    prompt, answer, group = (str(item.get(name, "")) for name in ("prompt", "answer", "group"))
    return Case(*key, prompt, answer, group, tuple(outputs))
