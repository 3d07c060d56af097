"""The figures of a report by name; importing this module does not import matplotlib."""

from typing import Any

from manifold_lora.registry import Registry

# A part draws a Figure from the rows of a report, or returns None where they have nothing to show.
# caption: the sentence below it; place: ours come first, in this order.
FIGURES: Registry[Any] = Registry("figure", "manifold_lora.figures")
_OURS = (
    (
        "accuracy",
        "scores:scores",
        "Accuracy by arm on test items: mean (bar), 95 % interval over seeds and items, seeds (dots).",
    ),
    (
        "differences",
        "scores:differences",
        "Paired differences with 95 % intervals, same seeds and items; filled: significant at 5 % after "
        "Benjamini-Hochberg, never by one seed.",
    ),
    (
        "curvature",
        "curvature:curvature",
        "Accuracy against curvature, each arm at its chosen rate, with 95 % intervals; band: the baseline.",
    ),
    (
        "learning-rate",
        "rates:rates",
        "Validation accuracy against learning rate, mean of the seeds, by group; ring: chosen, dashed: the "
        "baseline. Rates are chosen here; test items have no part in it.",
    ),
    (
        "kappa",
        "curvature:kappas",
        "Curvature at the end of training by layer; a dot per adapted module and seed.",
    ),
    (
        "gain",
        "curvature:gains",
        "Distribution of the gain c over layers and seeds: how much longer the curved update is than LoRA's.",
    ),
    (
        "cost",
        "costs:costs",
        "Cost against accuracy: medians over seeds, 95 % intervals of the accuracy. Of many arms are "
        "named the baseline, the dearest, the least accurate and those that no other beats in both.",
    ),
)
for _place, (_name, _part, _caption) in enumerate(_OURS):
    _path = f"manifold_lora.experiments.reports.figures.{_part}"
    FIGURES.declare(_name, _path, caption=_caption, place=_place)
