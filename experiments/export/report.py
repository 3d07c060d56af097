"""How near an exported LoRA is to its adapter: console tables, export.json and the text of its card."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from peft import PeftModel
from rich.table import Table

from manifold_lora.experiments.results.accuracy import percent
from manifold_lora.experiments.results.atomic import write_text
from manifold_lora.models.linear_fit import LinearFit
from manifold_lora.models.saved.card import model_card

_FILE = "export.json"
_KINDS = {
    "exact": "the update is linear itself",
    "gain": "gamma B A, gamma = E[c |BAx|^2] / E[|BAx|^2]",
    "matrix": "B' A with B' by least squares",
    "full": "rank r by reduced-rank regression",
}


@dataclass(frozen=True)
class ExportReport:
    """The figures of one export.

    Args:
        fits: by module name.
        logits: relative error of the logits, 1 being as far off as no adapter.
        same: share of tokens with the same likeliest next token.
        scores: set -> (items, accuracy of the adapter, accuracy of the LoRA).
        origin: what was fitted to and measured by.
    """

    fits: Mapping[str, LinearFit]
    logits: float
    same: float
    scores: Mapping[str, tuple[int, float, float]]
    origin: str

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Did an export write this folder?"""
        return (folder / _FILE).is_file()

    def tables(self) -> list[Table]:
        """The figures for the console."""
        table = Table(
            title=f"LoRA for the adapter, on {self.origin}", title_justify="left", show_header=False
        )
        for line in self._lines():
            table.add_row(*line)
        scores = Table(title="accuracy %", title_justify="left")
        for name in ("set", "items", "adapter", "LoRA", "change"):
            scores.add_column(name, justify="right")
        for name, (items, before, after) in self.scores.items():
            shares = (percent(before), percent(after), percent(after - before, "+"))
            scores.add_row(name, str(items), *shares)
        return [table, scores] if self.scores else [table]

    def _lines(self) -> list[tuple[str, str]]:
        errors = {name: fit.error for name, fit in self.fits.items()}
        worst = max(errors, key=lambda name: errors[name])
        kinds = Counter(fit.name for fit in self.fits.values())
        return [
            *((f"{count} layers: {kind}", _KINDS[kind]) for kind, count in kinds.items()),
            ("relative error of a layer's update, median", f"{median(errors.values()):.2e}"),
            ("worst", f"{errors[worst]:.2e} ({worst})"),
            *self._alternatives(),
            ("relative error of the logits (1: as no adapter)", f"{self.logits:.2e}"),
            ("same likeliest next token", f"{percent(self.same)} %"),
        ]

    def _alternatives(self) -> list[tuple[str, str]]:
        """What each kind of map would have come to in the layers that are not linear themselves."""
        kinds = dict.fromkeys(kind for fit in self.fits.values() for kind in fit.errors)
        return [
            (
                f"median with {kind} throughout",
                f"{median(fit.errors[kind] for fit in self._fitted(kind)):.2e}",
            )
            for kind in kinds
        ]

    def _fitted(self, kind: str) -> list[LinearFit]:
        return [fit for fit in self.fits.values() if kind in fit.errors]

    def write(self, folder: Path) -> None:
        """Write ``folder/export.json``."""
        layers = {
            name: {"kind": fit.name, "gain": fit.gain, "error": fit.error, "errors": dict(fit.errors)}
            for name, fit in self.fits.items()
        }
        data: dict[str, Any] = {
            "text": self.origin,
            "logits_error": self.logits,
            "same_next_token": self.same,
            "accuracy": {
                name: {"items": items, "adapter": before, "lora": after}
                for name, (items, before, after) in self.scores.items()
            },
            "layers": layers,
        }
        write_text(folder / _FILE, json.dumps(data, indent=1, allow_nan=False) + "\n")

    def card(self, model: PeftModel) -> str:
        """The README.md of the exported folder."""
        rows = [f"| {name} | {value} |" for name, value in self._lines()]
        rows += [
            f"| accuracy on {name}, {items} items | {before:.1%} by the adapter, {after:.1%} here |"
            for name, (items, before, after) in self.scores.items()
        ]
        source = model_card(model).replace("\n# ", "\n## ").removeprefix("# ")
        return "\n".join(
            [
                "# An ordinary LoRA fitted to a manifold adapter",
                "",
                f"Any program that loads PEFT LoRA loads and merges it. Measured on {self.origin}:",
                "",
                "| | |",
                "|---|---|",
                *rows,
                "",
                f"## Fitted to: {source}",
            ]
        )
