import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.commands.geometry import main
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.token_geometry.run import run_geometry
from manifold_lora.experiments.token_geometry.settings import GeometrySettings
from manifold_lora.experiments.token_geometry.stage_cache import StageCache, plain

GUIDE = Path(__file__).parents[3] / "docs" / "geometry.md"


@pytest.fixture
def ask(tiny, tmp_path, texts):
    """Settings for the tiny model on its own texts; keyword arguments override."""
    data = tmp_path / "corpus.txt"
    data.write_text("\n".join(texts))

    def build(**changes):
        chosen = {
            "model": str(tiny),
            "data": (str(data),),
            "hierarchy": "none",
            "vocabulary_sample": 8,
            "repeats": 2,
            "quadruples": 50,
            "reference_points": 12,
            "output": tmp_path / "out",
            "cache": tmp_path / "cache",
        }
        return GeometrySettings(**(chosen | changes))

    return build


@pytest.fixture
def adapters(tiny, tmp_path):
    """Two saved adapters of the tiny model, one of each geometry."""
    from manifold_lora.models.saved.save import save_adapter
    from manifold_lora.models.tuner.apply import adapt
    from manifold_lora.models.tuner.config import ManifoldLoraConfig

    folders = {}
    for arm in ("lorentz", "euclidean"):
        scaling = {"norm_scaling": "identity", "manifold": arm}
        config = ManifoldLoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, **scaling)
        folders[arm] = str(tmp_path / arm)
        save_adapter(adapt(AutoModelForCausalLM.from_pretrained(tiny), config), folders[arm])
    return folders


def test_the_block_of_the_documentation_runs(tiny, texts, tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    exec(compile(block.replace("FOLDER", str(tiny)), str(GUIDE), "exec"), {})


def test_a_report_has_json_tables_figures_and_a_self_contained_section(ask, tmp_path):
    path = run_geometry(ask())
    record = json.loads(path.read_text())
    assert {"frequency", "norms", "delta", "vocabulary", "hierarchy", "settings"} <= record.keys()
    for name in ("prompts.csv", "tokens.csv", "frequency.png", "norms.png", "delta.png"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    html = (tmp_path / "out" / "section.html").read_text()
    assert html.startswith("<section")
    assert html.count("data:image/png;base64,") == 3
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://|<script|@import""", html)


def test_every_set_stands_beside_both_nulls_and_the_references(ask):
    record = json.loads(run_geometry(ask()).read_text())
    one = record["delta"]["sets"]["corpus"]
    assert one["prompts"] == len(one["each"]) == 4
    assert one["nulls"].keys() == one["excess"].keys() == {"gaussian", "shuffled"}
    assert one["reading"]
    assert one["kappa"] < 0
    names = {space["name"] for space in record["delta"]["references"]}
    assert names == {"tree", "random graph", "S^2 chords", "S^2", "S^1"}


def test_the_verb_prints_a_line_for_every_set_and_where_the_report_is(ask, tmp_path, capsys):
    given = ask()
    flags = {"model": given.model, "hierarchy": "none", "vocabulary-sample": 8, "quadruples": 50}
    flags |= {"reference-points": 12, "output": given.output, "cache": given.cache}
    argv = [text for name, value in flags.items() for text in (f"--{name}", str(value))]
    assert main([*argv, "--data", *given.data]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith("corpus: relative delta 0.")
    assert "Gaussian null" in first
    assert last == str(tmp_path / "out" / "geometry.json")


def test_the_prompt_table_holds_what_the_record_holds(ask, tmp_path):
    record = json.loads(run_geometry(ask()).read_text())
    rows = list(csv.DictReader((tmp_path / "out" / "prompts.csv").read_text().splitlines()))
    each = record["delta"]["sets"]["corpus"]["each"]
    assert [float(row["relative"]) for row in rows] == [one["relative"] for one in each]
    assert [float(row["gaussian"]) for row in rows] == [one["nulls"]["gaussian"] for one in each]


def test_a_rerun_measures_nothing_and_other_content_does(ask, tmp_path):
    first = json.loads(run_geometry(ask()).read_text())
    again = json.loads(run_geometry(ask(output=tmp_path / "elsewhere")).read_text())
    assert first.pop("cached") == []
    assert sorted(again.pop("cached")) == ["delta", "frequency", "hierarchy", "norms", "vocabulary"]
    assert {**first, "settings": None} == {**again, "settings": None}
    (tmp_path / "corpus.txt").write_text("the dog ate a number of apples\nhow many has the fruit\n")
    assert json.loads(run_geometry(ask()).read_text())["cached"] == []


def test_a_torn_cache_file_is_computed_again(tmp_path):
    cache = StageCache(tmp_path)
    assert cache.get("stage", {"a": 1}, lambda: {"value": 1}) == {"value": 1}
    (file,) = tmp_path.glob("stage-*.json")
    file.write_text('{"val')
    assert cache.get("stage", {"a": 1}, lambda: {"value": 2}) == {"value": 2}
    assert cache.get("stage", {"a": 2}, lambda: {"value": 3}) == {"value": 3}
    assert cache.hits == []


def test_layers_before_and_after_two_arms(ask, adapters, tmp_path):
    record = json.loads(run_geometry(ask(adapters=adapters, layers="all", layer_prompts=3)).read_text())
    layers = record["layers"]
    assert layers["hidden"].keys() == {"base", "lorentz", "euclidean"}
    assert all(list(one) == ["layer 0", "layer 1", "layer 2"] for one in layers["hidden"].values())
    means = {arm: one["layer 2"]["relative"]["mean"] for arm, one in layers["hidden"].items()}
    assert len(set(means.values())) == 3
    assert all(one["kappa"] < 0 for arm in layers["inputs"].values() for one in arm.values())
    assert (tmp_path / "out" / "layers.png").stat().st_size > 0
    assert "layers.csv" in {file.name for file in (tmp_path / "out").iterdir()}


def test_a_given_base_distance_and_hierarchy_are_honoured(ask):
    plain = json.loads(run_geometry(ask()).read_text())["delta"]["sets"]["corpus"]
    curved = ask(
        base=0, distance={"name": "lorentz", "curvature": -0.5}, dtype="float32", hierarchy="taxonomy"
    )
    record = json.loads(run_geometry(curved).read_text())
    assert record["delta"]["sets"]["corpus"]["delta"] != plain["delta"]
    assert "reason" in record["hierarchy"]


def test_a_corpus_of_one_token_has_defined_values_and_reasons(ask, tmp_path):
    (tmp_path / "one.txt").write_text("dog\n")
    record = json.loads(
        run_geometry(ask(data=(str(tmp_path / "one.txt"),), special_tokens=False)).read_text()
    )
    one = record["delta"]["sets"]["one"]
    assert (one["relative"]["mean"], one["diameter"], one["kappa"]) == (0.0, 0.0, None)
    assert record["frequency"]["fit"] is None
    assert "different counts" in record["frequency"]["note"]
    assert "distinct tokens" in record["norms"]["reason"]


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"data": ()}, ManifoldLoraError, "--data"),
        ({"data": ("nothing",)}, UnknownNameError, "data"),
        ({"model": ""}, ValidationError, "some text"),
        ({"model": "/nowhere/at/all"}, UnknownNameError, "model folder"),
    ],
)
def test_what_is_missing_is_named(ask, changes, error, said):
    with pytest.raises(error, match=said):
        run_geometry(ask(**changes))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("distance", "lorenz", "lorentz"),
        ("distance", {"name": "lorentz", "curvature": 1.0}, "negative"),
        ("layers", "some", "none, all"),
        ("layers", [0.5], "none, all"),
        ("adapters", "folder", "mapping"),
        ("base", "every", "all"),
        ("vocabulary_sample", 3, "4"),
        ("modle", "x", "model"),
    ],
)
def test_bad_settings_are_reported_before_anything_is_read(field, value, said):
    with pytest.raises(ManifoldLoraError, match=said):
        validate(GeometrySettings, {field: value}, "test")


def test_no_token_or_name_can_break_out_of_the_section():
    from manifold_lora.experiments.token_geometry.section import html_section

    hostile = "<script>alert(1)</script>"
    record = {
        "settings": {"model": hostile, "base": 0, "distance": hostile},
        "frequency": {"tokens": 1, "distinct": 1, "fit": None, "note": hostile},
        "norms": {"reason": hostile},
        "delta": {"sets": {}, "references": [], "rule": hostile},
        "vocabulary": {hostile: {"statement": hostile}},
        "hierarchy": {"name": hostile, "reason": hostile},
    }
    assert "<script" not in html_section(record, {})


def test_not_a_number_is_written_as_null():
    assert plain({"a": float("nan"), "b": (1.0, float("inf"))}) == {"a": None, "b": [1.0, None]}


def test_settings_and_the_entry_point_load_without_torch():
    code = "import manifold_lora.experiments.token_geometry.run, sys; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
