"""Delta of every prompt against how models answered it: before and after adaptation, and in pre-training."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.reports.statistics import adjusted
from manifold_lora.experiments.runs.folder import ADAPTER, EVALUATION, RESULT, RunFolder
from manifold_lora.experiments.token_geometry.ability import (
    Column,
    Estimate,
    PromptRow,
    average,
    controls_of,
    rank_correlation,
)
from manifold_lora.experiments.token_geometry.activations import hidden_states
from manifold_lora.experiments.token_geometry.prompts import DeltaOptions, measure_prompt

Record = dict[str, Any]
_ITEM: dict[str, Callable[[Any], Any]] = {
    "set": str,
    "id": str,
    "group": str,
    "cluster": str,
    "correct": bool,
    "gold_tokens": int,
}


def answered_in(folder: Path, limit: int) -> list[Record]:
    """The first ``limit`` items of each set that ``evaluate``, else ``train``, wrote to a run's folder.

    Raises ManifoldLoraError where there are none, or they are not of one with ``evaluation.nll``.
    """
    path = next((folder / name for name in (EVALUATION, RESULT) if (folder / name).is_file()), None)
    if path is None:
        hint = "manifold-lora train, or manifold-lora evaluate --output, writes one"
        raise ManifoldLoraError("run", str(folder), f"a folder with {EVALUATION} or {RESULT}", hint)
    sets: dict[str, list[Record]] = {}
    try:
        for item in json.loads(path.read_text(encoding="utf-8"))["items"]:
            nll = float("nan") if item["nll"] is None else round(float(item["nll"]), 6)
            found = {name: kind(item[name]) for name, kind in _ITEM.items()}
            found["cluster"] = f"{found['set']}: {found['cluster'] or found['id']}"
            sets.setdefault(found["set"], []).append({**found, "prompt": str(item["prompt"]), "nll": nll})
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = f"{type(error).__name__}: {error}"
        raise ManifoldLoraError("items of run", str(path), "answers with evaluation.nll", hint) from error
    if not sets:
        raise ManifoldLoraError("items of run", str(path), "at least one answer", "the run did not end")
    return [item for items in sets.values() for item in items[:limit]]


def measure_run(
    folder: Path,
    layers: Sequence[int] | None,
    limit: int,
    options: DeltaOptions,
    tick: Callable[[int, int], None],
) -> list[PromptRow]:
    """Run the base of a run, with its adapter if it has one, on the prompts that it answered.

    Args:
        folder: of ``manifold-lora train``, or ``evaluate --output``.
        layers: hidden states, counted as ``hidden_states`` does; None for the embeddings, the middle and the
            last.
        limit: items of each set.
        options: how delta is measured.
        tick: called after each prompt with (prompts measured, of all).

    Raises ManifoldLoraError for a folder that is none, or a prompt of fewer than two tokens.
    """
    from manifold_lora.models.load import load_adapter, load_base

    items = answered_in(folder, limit)
    base, tokenizer = load_base(RunFolder(folder).base()["base"], dtype="float32")
    model = load_adapter(folder / ADAPTER, base) if (folder / ADAPTER).is_dir() else base
    count = model.config.num_hidden_layers
    wanted = sorted({0, count // 2, count}) if layers is None else layers
    prompts = [item.pop("prompt") for item in items]
    if short := sum(len(ids) < 2 for ids in tokenizer(prompts)["input_ids"]):
        raise ManifoldLoraError("prompts", f"{short} of one token", "two or more: the first is left out")
    rows: list[PromptRow] = []
    states = hidden_states(model, tokenizer, prompts, wanted)
    for done, (item, clouds) in enumerate(zip(items, states, strict=True), start=1):
        # A prompt has the same draws in every run: what differs between runs is not the null's noise.
        rng = np.random.default_rng((options.seed, done))
        for layer, cloud in clouds.items():
            delta = measure_prompt(cloud, options, rng)
            norm = float(np.median(np.linalg.norm(cloud.astype(np.float64), axis=-1)))
            # Rounded, so that the tables follow from prompts.csv to the last digit.
            figures = {"norm": norm, "delta": delta.relative, **delta.nulls}
            rounded: Record = {name: round(value, 6) for name, value in figures.items()}
            counts: Record = {"tokens": delta.tokens, "distinct": delta.distinct}
            rows.append(PromptRow(folder.name, layer, **item, **counts, **rounded))
        tick(done, len(items))
    return rows


def deltas(rows: Sequence[PromptRow], resamples: int, seed: int = 0) -> list[Record]:
    """Means of each run and layer, and of the change of excess since the first run, with intervals."""
    first = {_place(row): row for row in rows if row.run == rows[0].run}
    return [
        {
            "run": some[0].run,
            "layer": some[0].layer,
            "prompts": len(some),
            "right": fmean(row.correct for row in some),
            "likelihood": _known_mean([row.likelihood for row in some]),
            "gaussian": fmean(row.gaussian for row in some),
            "shuffled": fmean(row.shuffled for row in some),
            **_mean("delta", some, [row.delta for row in some], resamples, seed),
            **_mean("excess", some, [row.excess for row in some], resamples, seed),
            **_changed(some, first, resamples, seed),
        }
        for some in _by_layer(rows)
    ]


def _known_mean(values: list[float]) -> float | None:
    known = [value for value in values if np.isfinite(value)]
    return fmean(known) if known else None


def _changed(some: list[PromptRow], first: dict[Any, PromptRow], resamples: int, seed: int) -> Record:
    both = (
        [] if some[0].run == next(iter(first.values())).run else [row for row in some if _place(row) in first]
    )
    moved = [row.excess - first[_place(row)].excess for row in both]
    return _mean("change", both, moved, resamples, seed) if both else {}


def _mean(name: str, rows: list[PromptRow], values: list[float], resamples: int, seed: int) -> Record:
    found = average(np.array(values), [row.cluster for row in rows], resamples, seed)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def correlations(rows: Sequence[PromptRow], resamples: int, seed: int = 0) -> list[Record]:
    """Rank correlations of delta, of its excess over the Gaussian null and of that's change with ability.

    Ability is ``right`` or wrong, and the ``likelihood`` of the gold text: a positive rho says that prompts
    answered better have the larger figure. ``held`` is rho with the controls fixed; of a change these are the
    first run's, with its excess and likelihood. ``adjusted`` is ``held_p`` after Benjamini and Hochberg over
    all lines.
    """
    first = {_place(row): row for row in rows if row.run == rows[0].run}
    lines = []
    for some in _by_layer(rows):
        for line, columns, fixed, clusters in _questions(some, first):
            none = np.empty((len(fixed), 0))
            plain, held = (
                rank_correlation(*columns, controls, clusters, resamples, seed) for controls in (none, fixed)
            )
            if plain is not None:
                known = int(np.isfinite(columns).all(axis=0).sum())
                lines.append(line | {"prompts": known} | _cells("rho", plain) | _cells("held", held))
    tested = [line for line in lines if line["held"] is not None]
    for line, p in zip(tested, adjusted([line["held_p"] for line in tested]), strict=True):
        line["adjusted"] = p
    return lines


def _questions(
    some: list[PromptRow], first: dict[Any, PromptRow]
) -> Iterator[tuple[Record, tuple[Column, Column], Column, list[str]]]:
    """What a line is of, the figure and the ability of each prompt, its controls and its cluster."""
    where = {"run": some[0].run, "layer": some[0].layer}
    controls, clusters = controls_of(some), [row.cluster for row in some]
    for ability in ("right", "likelihood"):
        good = np.array(
            [row.correct if ability == "right" else row.likelihood for row in some], dtype=np.float64
        )
        for figure in ("delta", "excess"):
            values = np.array([getattr(row, figure) for row in some])
            yield where | {"figure": figure, "ability": ability}, (values, good), controls, clusters
    both = [(first[_place(row)], row) for row in some if _place(row) in first]
    if not both or both[0][0] is both[0][1]:
        return
    moved = np.array([now.excess - then.excess for then, now in both])
    gained = np.array([now.likelihood - then.likelihood for then, now in both])
    before = [[then.excess, then.likelihood if np.isfinite(then.likelihood) else 0.0] for then, _ in both]
    start = np.hstack([controls_of([then for then, _ in both]), before])
    line = where | {"figure": "change of excess", "ability": "change of likelihood"}
    yield line, (moved, gained), start, [row.cluster for _, row in both]


def _cells(name: str, found: Estimate | None) -> Record:
    if found is None:
        return {name: None}
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high, f"{name}_p": found.p}


def _by_layer(rows: Sequence[PromptRow]) -> list[list[PromptRow]]:
    """The rows of each run and layer, in the order of the first of each."""
    found: dict[tuple[str, str], list[PromptRow]] = {}
    for row in rows:
        found.setdefault((row.run, row.layer), []).append(row)
    return list(found.values())


def _place(row: PromptRow) -> tuple[str, str, str]:
    return row.layer, row.set, row.id
