"""The parts of a geometry report, each from the corpus to plain data."""

from collections.abc import Callable
from typing import Any

import numpy as np

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.data.hierarchy import Hierarchy
from manifold_lora.experiments.data.wordnet import read_nouns
from manifold_lora.experiments.token_geometry.corpus_context import Corpus
from manifold_lora.experiments.token_geometry.delta.gromov import hyperbolicity
from manifold_lora.experiments.token_geometry.delta.references import REFERENCES
from manifold_lora.experiments.token_geometry.delta.sampled import sampled_hyperbolicity
from manifold_lora.experiments.token_geometry.frequency import fit_power_law
from manifold_lora.experiments.token_geometry.hierarchy import check_hierarchy
from manifold_lora.experiments.token_geometry.norms import frequency_bins, norm_bands, spearman
from manifold_lora.experiments.token_geometry.prompts import measure_prompts, summarise
from manifold_lora.experiments.token_geometry.stage_cache import plain
from manifold_lora.experiments.token_geometry.suggestion import SOURCES, suggest_kappa
from manifold_lora.experiments.token_geometry.taxonomy_tree import read_taxonomy
from manifold_lora.experiments.token_geometry.vocabulary import shown, word_ids
from manifold_lora.experiments.token_geometry.words import word_groups
from manifold_lora.models.shipped import file_sha256

Record = dict[str, Any]
Tick = Callable[[], None]

_WORDS = 5000  # words of a hierarchy that are looked up, drawn at random from the larger ones


def frequency(corpus: Corpus) -> Record:
    """Token counts and their power law; a corpus too small to fit says so instead."""
    _, counts = corpus.counts
    record: Record = {"tokens": int(counts.sum()), "distinct": len(counts), "counts": counts.tolist()}
    try:
        return record | {"fit": plain(fit_power_law(counts))}
    except ManifoldLoraError as error:
        return record | {"fit": None, "note": str(error)}


def norms(corpus: Corpus) -> Record:
    """Norm against frequency over the corpus's tokens, the token table per band, and the paper's words."""
    ids, counts = corpus.counts
    values = corpus.table.norms[ids]
    if len(ids) < 3 or np.ptp(counts) == 0 or np.ptp(values) == 0:
        return {"reason": f"{len(ids)} distinct tokens; norms and counts must differ"}
    bands = plain(norm_bands(ids, counts, values))
    for band in bands:
        band["shown"] = shown(corpus.tokenizer, band["most_frequent"])
    return {
        "spearman": plain(spearman(counts, values, seed=corpus.settings.seed)),
        "bins": plain(frequency_bins(counts, values)),
        "bands": bands,
        "groups": plain(word_groups(corpus.table, corpus.tokenizer)),
        "ids": ids.tolist(),
        "tokens": shown(corpus.tokenizer, ids.tolist()),
        "counts": counts.tolist(),
        "values": values.tolist(),
    }


def delta(corpus: Corpus, tick: Tick) -> Record:
    """Per set: every prompt's delta beside its nulls, their summary, the reading and the suggested kappa."""
    sets: Record = {}
    for name in corpus.texts:
        measured = list(measure_prompts(corpus.clouds(name), corpus.delta_options, tick))
        summary = summarise(measured, seed=corpus.settings.seed)
        sets[name] = plain(summary) | {
            "reading": summary.reading,
            "kappa": _kappa(corpus, summary),
            "each": plain(measured),
        }
    return {"sets": sets, "rule": SOURCES[corpus.settings.rule], "references": references(corpus)}


def _kappa(corpus: Corpus, summary: Any) -> float | None:
    if not summary.delta > 0:
        return None
    return suggest_kappa(summary.typical, corpus.settings.rule, np.sqrt(corpus.table.width).item())


def references(corpus: Corpus) -> list[Record]:
    """The reference spaces, measured with the report's own base point and number of points."""
    settings, found = corpus.settings, []
    for space in REFERENCES:
        distances = space.distances(settings.reference_points, np.random.default_rng(settings.seed))
        base = settings.base if settings.base == "all" else 0
        measured = hyperbolicity(distances, base)
        found.append(
            {
                "name": space.name,
                "definition": space.definition,
                "points": measured.points,
                "relative": measured.relative,
                "expected": space.expected,
                "expected_points": space.points,
            }
        )
    return found


def vocabulary(corpus: Corpus) -> Record:
    """Delta of random subsets of the whole vocabulary, and of Gaussians of the same norms."""
    settings, table = corpus.settings, corpus.table
    rng = np.random.default_rng(settings.seed)
    drawn = rng.permutation(table.vocabulary)[: settings.repeats * settings.vocabulary_sample]
    rows = table.rows(np.sort(drawn))
    rows = rows[np.linalg.norm(rows, axis=1) > 0]
    draws = rng.standard_normal(rows.shape)
    null = draws * (np.linalg.norm(rows, axis=1) / np.linalg.norm(draws, axis=1))[:, None]
    result: Record = {}
    for name, points in (("real", rows), ("gaussian", null)):
        sampled = sampled_hyperbolicity(
            points,
            corpus.delta_options.distance,
            subset=settings.vocabulary_sample,
            repeats=settings.repeats,
            quadruples=settings.quadruples,
            seed=settings.seed,
        )
        result[name] = plain(sampled) | {"statement": sampled.statement}
    return result


def hierarchy(corpus: Corpus) -> Record | None:
    """Norm and distance against depth in the hierarchy that the settings choose; None where there is none."""
    tree = _hierarchy(corpus)
    if tree is None:
        return None
    words = sorted(word for word in tree.parents if not word.startswith("#"))
    rng = np.random.default_rng(corpus.settings.seed)
    some = [words[i] for i in sorted(rng.permutation(len(words))[:_WORDS])]
    pieces = {word: word_ids(corpus.tokenizer, word) for word in some}
    unknown = corpus.tokenizer.unk_token_id
    whole = {word: ids[0] for word, ids in pieces.items() if len(ids) == 1 and ids[0] != unknown}
    try:
        vectors = corpus.table.rows(list(whole.values()))
        check = check_hierarchy(tree, list(whole), vectors, seed=corpus.settings.seed)
    except ManifoldLoraError as error:
        return {"name": tree.name, "reason": str(error)}
    return plain(check) | {"name": tree.name, "looked_up": len(some)}


def hierarchy_inputs(corpus: Corpus) -> Record:
    """What the hierarchy depends on beside the corpus: WordNet's files, by hash."""
    if _wanted(corpus) != "wordnet":
        return {}
    files = (corpus.settings.wordnet / name for name in ("data.noun", "index.noun"))
    return {"wordnet": [file_sha256(path) for path in files if path.is_file()]}


def _hierarchy(corpus: Corpus) -> Hierarchy | None:
    wanted = _wanted(corpus)
    if wanted == "none":
        return None
    return read_taxonomy() if wanted == "taxonomy" else read_nouns(corpus.settings.wordnet)


def _wanted(corpus: Corpus) -> str:
    wanted, folder = corpus.settings.hierarchy, corpus.settings.wordnet
    if wanted != "auto":
        return wanted
    return "taxonomy" if "taxonomy" in corpus.texts else "wordnet" if folder.is_dir() else "none"
