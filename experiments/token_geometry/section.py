"""The geometry section of the HTML report: a fragment with its figures inside and no outside reference."""

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

Record = dict[str, Any]


def html_section(record: Record, figures: Mapping[str, bytes]) -> str:
    """A ``<section>`` to be put into a page; every value is escaped, every image inline."""
    parts = [
        f"<h2>Token geometry of {escape(record['settings']['model'])}</h2>",
        _frequency(record["frequency"]),
        _image(figures, "frequency"),
        _norms(record["norms"]),
        _image(figures, "norms"),
        _delta(record),
        _image(figures, "delta"),
        _vocabulary(record.get("vocabulary")),
        _layers(record.get("layers")),
        _image(figures, "layers"),
        _hierarchy(record.get("hierarchy")),
        _image(figures, "hierarchy"),
    ]
    body = "\n".join(part for part in parts if part)
    return f'<section class="geometry">\n{body}\n</section>\n'


def _image(figures: Mapping[str, bytes], name: str) -> str:
    if name not in figures:
        return ""
    data = b64encode(figures[name]).decode()
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'


def _table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = ("".join(f"<td>{escape(_cell(value))}</td>" for value in row) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _span(one: Record) -> str:
    return f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"


def _frequency(part: Record) -> str:
    fit = part["fit"]
    said = f"{part['tokens']} tokens, {part['distinct']} distinct. "
    if fit is None:
        return f"<h3>Frequency</h3><p>{said}No power law was fitted: {escape(part['note'])}</p>"
    said += f"γ = {fit['gamma']:.3f} ± {fit['sigma']:.3f} from {fit['xmin']:.0f} occurrences on"
    said += f" ({fit['tail']} tokens, KS distance {fit['ks']:.3f})."
    rows = [(name, one["ratio"], one["p"]) for name, one in fit["versus"].items()]
    table = _table(("alternative", "log-likelihood ratio (> 0: power law)", "p"), rows)
    return f"<h3>Frequency</h3><p>{said}</p>{table}"


def _norms(part: Record) -> str:
    if "reason" in part:
        return f"<h3>Norm against frequency</h3><p>{escape(part['reason'])}</p>"
    bands = [
        (f"{one['low']:.3f} to {one['high']:.3f}", one["tokens"], one["mean_count"], " ".join(one["shown"]))
        for one in part["bands"]
    ]
    groups = [
        (one["name"], f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]", ", ".join(one["words"]))
        for one in part["groups"]
    ]
    return (
        "<h3>Norm against frequency</h3>"
        + _table(("norm", "tokens", "mean count", "most frequent"), bands)
        + (_table(("group", "mean norm [min, max]", "words"), groups) if groups else "")
    )


def _delta(record: Record) -> str:
    part, settings = record["delta"], record["settings"]
    header = (
        "set",
        "prompts",
        "relative delta",
        "Gaussian null",
        "shuffled",
        "difference to Gaussian",
        "reading",
    )
    rows = [
        (
            name,
            one["prompts"],
            _span(one["relative"]),
            _span(one["nulls"]["gaussian"]),
            _span(one["nulls"]["shuffled"]),
            _span(one["excess"]["gaussian"]),
            one["reading"],
        )
        for name, one in part["sets"].items()
    ]
    kappas = [(name, one["kappa"]) for name, one in part["sets"].items()]
    spaces = [
        (
            one["name"],
            one["definition"],
            one["points"],
            one["relative"],
            f"{one['expected']} at {one['expected_points']}",
        )
        for one in part["references"]
    ]
    base = "all base points" if settings["base"] == "all" else f"base point {settings['base']}"
    distance = escape(str(settings["distance"]))
    return (
        f"<h3>Delta-hyperbolicity</h3><p>Relative delta 2δ/diam per prompt, {distance} distance, {base},"
        " mean with 95 % bootstrap interval.</p>"
        + _table(header, rows)
        + f"<p>Suggested curvature: {escape(part['rule'])}."
        " Structureless points get one too: read the null.</p>"
        + _table(("set", "kappa"), kappas)
        + _table(("reference", "definition", "points", "measured here", "known (one base point)"), spaces)
    )


def _vocabulary(part: Record | None) -> str:
    if not part:
        return ""
    rows = [(name, one["statement"]) for name, one in part.items()]
    return "<h3>Vocabulary</h3>" + _table(("points", "what the sample shows"), rows)


def _layers(part: Record | None) -> str:
    if not part:
        return ""
    rows = [
        (arm, where, _span(one["relative"]), _span(one["nulls"]["gaussian"]), one.get("kappa"))
        for kind in ("hidden", "inputs")
        for arm, places in part[kind].items()
        for where, one in places.items()
    ]
    header = ("arm", "where", "relative delta", "Gaussian null", "kappa")
    return f"<h3>By layer ({part['prompts']} prompts)</h3>" + _table(header, rows)


def _hierarchy(part: Record | None) -> str:
    if not part:
        return ""
    if "reason" in part:
        return f"<h3>Hierarchy: {escape(part['name'])}</h3><p>{escape(part['reason'])}</p>"
    rows = [
        (name, one["origin_pearson"], f"{one['path_spearman']['rho']:.3f}")
        for name, one in part["geometries"].items()
    ]
    rho = part["norm_depth"]
    return (
        f"<h3>Hierarchy: {escape(part['name'])}</h3><p>{part['words']} words of {part['looked_up']} looked up"
        f" are one token. Norm with depth: Spearman {rho['rho']:.3f} [{rho['low']:.3f}, {rho['high']:.3f}];"
        " the rank correlation of distance-to-origin is the same in every geometry.</p>"
        + _table(
            ("geometry", "distance-to-origin with depth, Pearson", "distance with tree path, Spearman"), rows
        )
    )
