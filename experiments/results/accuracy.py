"""Accuracy from items, and shares in percent: one place for result files, tables and pages."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from statistics import fmean
from typing import Any

from manifold_lora.errors import ManifoldLoraError

Right = dict[str, bool]


def right_by_set(items: Iterable[Mapping[str, Any]]) -> dict[str, Right]:
    """Set -> item id -> was it answered right? Raises ManifoldLoraError for an id that comes twice."""
    sets: dict[str, Right] = defaultdict(dict)
    for item in items:
        if item["id"] in sets[item["set"]]:
            raise ManifoldLoraError(f"item id of set {item['set']}", item["id"], "one item an id")
        sets[item["set"]][item["id"]] = bool(item["correct"])
    return dict(sets)


def accuracy(right: Right) -> float:
    """The share of a set's items that were answered right."""
    return fmean(right.values())


def percent(share: float, sign: str = "") -> str:
    """A share in percent to one digit: ``"12.5"``; with ``sign="+"`` a difference in points: ``"+12.5"``.

    NaN, which stands for nothing known, is a dash; infinity, which no share reaches, is "none".
    """
    if math.isinf(share):
        return "none"
    return "–" if math.isnan(share) else f"{100 * share:{sign}.1f}"
