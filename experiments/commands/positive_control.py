"""``manifold-lora positive-control``: what the report's rule says where the truth is known."""

import io
import os
import sys
from typing import TYPE_CHECKING

from manifold_lora.experiments.commands.arguments import parse
from manifold_lora.experiments.planted.settings import PlantedSettings
from manifold_lora.experiments.results.atomic import write_bytes, write_text
from manifold_lora.experiments.settings.preflight import check_places

if TYPE_CHECKING:
    from manifold_lora.experiments.planted.study import Reading

# The matrices are small: a second thread a process only gets in the way.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(argv: list[str]) -> int:
    """The verb ``positive-control [CONFIG] [--flags]``: exit 1 where a criterion is missed."""
    settings = parse(PlantedSettings, argv, "positive-control")
    check_places(output=settings.output)
    # Imported late: a typo is reported before numpy and torch are loaded.
    from manifold_lora.experiments.planted.control import run_studies
    from manifold_lora.experiments.planted.summary import csv_rows, lines, missed, progress
    from manifold_lora.experiments.reports.csv_files import csv_text

    os.environ.update(dict.fromkeys(_THREADS, "1"))
    readings: "list[Reading]" = []
    total = len(settings.truths) * settings.studies
    for one in run_studies(settings):
        readings.append(one)
        _save(one, settings)
        print(progress(len(readings), total, one), file=sys.stderr, flush=True)
    readings.sort(key=lambda one: (settings.truths.index(one.truth), one.number))
    write_text(settings.output / "studies.csv", csv_text(csv_rows(readings)))
    for line in lines(readings, settings):
        print(line)
    print(settings.output / "studies.csv")
    return 1 if missed(readings, settings) else 0


def _save(one: "Reading", settings: PlantedSettings) -> None:
    """Every answer of a study, right or wrong: validation and test of each arm, (rates, seeds, items)."""
    import numpy as np

    buffer = io.BytesIO()
    arrays = {
        f"{arm}/{name}": getattr(found, name)
        for arm, found in one.answers.items()
        for name in ("validation", "test")
    }
    np.savez_compressed(buffer, rates=np.array(settings.rates), **arrays)
    write_bytes(settings.output / f"{one.truth}-{one.number:03}.npz", buffer.getvalue())
