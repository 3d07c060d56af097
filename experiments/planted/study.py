"""One study of a planted truth: six arms trained, and what the report's rule says of the curved one."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from manifold_lora.experiments.planted.gains import Array, Constant, Gain, Geometry, Power
from manifold_lora.experiments.planted.settings import TRUTHS, PlantedSettings, TruthName
from manifold_lora.experiments.planted.students import Students, matched, train
from manifold_lora.experiments.planted.truth import Planted, Population, plant
from manifold_lora.experiments.reports.comparison import compare
from manifold_lora.experiments.reports.row import COSTS, ArmRow, Record
from manifold_lora.experiments.reports.verdicts import verdict
from manifold_lora.experiments.settings.arms import ARMS

CURVED, BASELINE, MATCHED, TEST = "direct", "lora", "gain-matched-lora", "test"


@dataclass(frozen=True)
class Answers:
    """What an arm's trainings got right: validation (rates, seeds, items) and test, 0/1; median gains c."""

    validation: np.ndarray
    test: np.ndarray
    gains: Array


@dataclass(frozen=True)
class Reading:
    """A study's verdict on the curved arm and the rows that it follows from."""

    truth: TruthName
    number: int
    word: str
    because: str
    row: ArmRow
    answers: dict[str, Answers]


def radius(truth: TruthName, settings: PlantedSettings) -> float:
    """R of a truth's arms, and of its teacher where that is curved."""
    return settings.R if truth == "yours" else settings.reference_R


def sizes(truth: TruthName, settings: PlantedSettings) -> tuple[int, int]:
    """Seeds and test items of a truth's studies."""
    if truth == "yours":
        return settings.seeds, settings.items
    return settings.reference_seeds, settings.reference_items


def teacher(truth: TruthName, settings: PlantedSettings) -> Gain:
    """The gain that a truth's teacher has."""
    match truth:
        case "linear" | "argmax":
            return Constant()
        case "saturating":
            return Power(radius(truth, settings), settings.max_angle, 0.0)
        case "power":
            return Power(radius(truth, settings), settings.max_angle)
        case _:
            return Geometry(radius(truth, settings), settings.max_angle)


def population(truth: TruthName, settings: PlantedSettings) -> Population:
    """What a truth's items are drawn by."""
    rho = settings.saturated_rho if truth in ("saturating", "power") else settings.rho
    argmax = truth == "argmax"
    sharpness = settings.argmax_sharpness if argmax else settings.sharpness
    return Population(settings.sigma, rho, sharpness, argmax)


def run_study(truth: TruthName, number: int, settings: PlantedSettings) -> Reading:
    """Plant, train all arms, and read; the same for the same numbers, in whatever order studies run."""
    rng = np.random.default_rng([settings.seed, list(TRUTHS).index(truth), number])
    counts = (settings.train_items, settings.validation_items, sizes(truth, settings)[1])
    data = plant(teacher(truth, settings), counts, population(truth, settings), rng)
    answers = {
        arm: Answers(
            students.right(data.validation),
            students.right(data.test),
            np.median(students.gains(data.validation), axis=(-2, -1)),
        )
        for arm, students in _trained(truth, settings, data, number)
    }
    return read(truth, number, answers, settings)


def _trained(
    truth: TruthName, settings: PlantedSettings, data: Planted, number: int
) -> Iterator[tuple[str, Students]]:
    R, limit = radius(truth, settings), settings.max_angle
    seeds, _ = sizes(truth, settings)

    def trained(gain: Gain) -> Students:
        rng = np.random.default_rng([settings.seed, number, len(settings.rates), seeds])
        return train(gain, data, settings.rates, seeds, settings.steps, settings.batch_size, rng)

    direct = trained(Geometry(R, limit))
    yield CURVED, direct
    yield BASELINE, trained(Constant())
    yield MATCHED, trained(matched(direct, data.validation))
    yield "norm-blind", trained(Power(R, limit, 0.0))
    yield "power", trained(Power(R, limit))
    yield "power-learned", trained(Power(R, limit, learned=True))


def read(truth: TruthName, number: int, answers: dict[str, Answers], settings: PlantedSettings) -> Reading:
    """The rule of the reports over these answers, as over the records of an ablation."""
    kappa = -1 / radius(truth, settings) ** 2
    cells = {
        f"{arm} {place} {seed}": (arm, place, seed)
        for arm, found in answers.items()
        for place in range(len(settings.rates))
        for seed in range(found.test.shape[1])
    }

    def items(cell: str) -> list[dict[str, Any]]:
        arm, place, seed = cells[cell]
        right = answers[arm].test[place, seed].tolist()
        return [{"set": TEST, "id": f"{at:07}", "correct": one} for at, one in enumerate(right)]

    records = [
        _record(cell, arm, settings.rates[place], seed, answers[arm], kappa, place)
        for cell, (arm, place, seed) in cells.items()
    ]
    rows = compare(records, items, BASELINE)
    row = next(row for row in rows if row.label == CURVED)
    found = verdict(row, TEST, rows)
    if found is None:
        raise AssertionError("the curved arm is compared with LoRA")
    return Reading(truth, number, found.word, found.because, row, answers)


def _record(cell: str, arm: str, rate: float, seed: int, found: Answers, kappa: float, place: int) -> Record:
    validation, test = (
        {"accuracy": float(right[place, seed].mean()), "items": right.shape[-1]}
        for right in (found.validation, found.test)
    )
    curved = ARMS[arm]["method"] == "manifold_lora"
    run = {"arm": arm, "adapter": ARMS[arm], "train": {"learning_rate": rate, "seed": seed}}
    return {
        "cell": cell,
        "status": "ok",
        "point": {"arm": arm, "train.learning_rate": rate, "train.seed": seed},
        "run": run,
        "evaluation": {"validation": validation, TEST: test},
        "cost": dict.fromkeys(COSTS, 0.0),
        "geometry": {
            "gain": {"layer": float(found.gains[place, seed])} if curved else {},
            "kappa": {"layer": kappa} if curved else {},
        },
    }
