"""The report of an ablation folder: console tables; CSV, LaTeX, figures and a page beside the results."""

from pathlib import Path

from rich.console import Console

from manifold_lora.experiments.reports.answer import answer
from manifold_lora.experiments.reports.console import (
    LEGEND,
    cost_table,
    failed_table,
    literal,
    score_table,
    verdict_lines,
)
from manifold_lora.experiments.reports.csv_files import comparisons_csv, endpoints_csv, scores_csv
from manifold_lora.experiments.reports.study import Study
from manifold_lora.experiments.results.atomic import sweep_temporaries, write_bytes, write_text

FIGURES = "figures"


def write_report(folder: Path, console: Console) -> int:
    """Write the files and print the tables; returns 1 if a cell has no result, else 0.

    ``table.csv``, ``comparisons.csv``, ``endpoints.csv``, ``table.tex``, ``table.png``, ``figures/*.svg`` and
    ``report.html``. Every figure is computed from the verified result files. Temp files that dead writers
    left are removed.
    Raises ManifoldLoraError for another folder, StorageError where there is no room; the old files hold then.
    """
    study = Study.read(folder)
    sweep_temporaries(folder, folder / "results", folder / FIGURES)
    # Files first: a console that cannot print must not cost the report.
    _write(study)
    if study.rows:
        console.print(score_table(study.rows, study.title), cost_table(study.rows), sep="\n")
        console.print(LEGEND, style="dim")
        if (found := answer(study.rows)) is not None:
            console.print(literal(found.text), style="bold")
        for line in verdict_lines(study.rows):
            console.print(literal(line))
    failed = failed_table(study.records)
    if failed is not None:
        console.print(failed)
    others = (
        ", table.csv, comparisons.csv, endpoints.csv, table.tex, table.png, figures" if study.rows else ""
    )
    console.print(literal(f"{folder / 'report.html'}{others}"))
    return 1 if study.unfinished or not study.records else 0


def _write(study: Study) -> None:
    # Imported late: matplotlib takes a second, which a refused folder need not wait for.
    from manifold_lora.experiments.reports.figures.gallery import gallery
    from manifold_lora.experiments.reports.figures.scores import scores
    from manifold_lora.experiments.reports.figures.style import png, styled
    from manifold_lora.experiments.reports.latex import latex
    from manifold_lora.experiments.reports.page.page import page

    folder, pictures = study.folder, list(gallery(study.rows)) if study.rows else []
    if study.rows:
        write_text(folder / "table.csv", scores_csv(study.rows))
        write_text(folder / "comparisons.csv", comparisons_csv(study.rows))
        write_text(folder / "endpoints.csv", endpoints_csv(study.endpoints))
        write_text(folder / "table.tex", latex(study))
        with styled():
            write_bytes(folder / "table.png", png(scores(study.rows)))
    for picture in pictures:
        write_text(folder / FIGURES / f"{picture.name}.svg", picture.svg)
    write_text(folder / "report.html", page(study, pictures))
