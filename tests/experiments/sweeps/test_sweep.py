"""A whole ablation on a tiny random Llama on disk: real processes, real files, run once and never again."""

import json
import shutil

import pytest
from rich.console import Console

from manifold_lora.experiments.cli import main
from manifold_lora.experiments.results.manifest import Manifest
from manifold_lora.experiments.results.store import ResultStore
from manifold_lora.experiments.settings.ablation import AblationSettings
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.sweeps.ablation import ablate
from manifold_lora.experiments.sweeps.grid import Grid
from manifold_lora.experiments.tasks.registry import build_task
from manifold_lora.models.tiny import tiny_model, word_tokenizer

ARMS = ["lora", "dora", "gain-matched-lora", "tangent", "direct", "boost"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """An untrained Llama with the taxonomy task's tokenizer, saved as any Hugging Face model is."""
    folder = tmp_path_factory.mktemp("basis modell ü")
    task = build_task("taxonomy")
    texts = [f"{example.prompt} {example.target}" for example in task.train]
    tokenizer = word_tokenizer(texts)
    tokenizer.save_pretrained(folder)
    tiny_model(len(tokenizer), hidden_size=16, layers=2, heads=2, intermediate_size=32).save_pretrained(
        folder
    )
    return folder


def _settings(base, output, **changes):
    data = {
        "task": {"name": "taxonomy", "style": "equation", "limit": 24},
        "model": {"name": str(base)},
        "adapter": {"rank": 2},
        "train": {"steps": 4, "batch_size": 8},
        "evaluation": {"batch_size": 24, "max_new_tokens": 2},
        "grid": {"arm": ARMS, "train.learning_rate": [1e-2], "train.seed": [0, 1]},
        "output": str(output),
        "cache": str(output.parent / "cache"),
    }
    return validate(AblationSettings, data | changes, "test")


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    """The folder of an ablation of six arms and two seeds that ran to its end."""
    output = tmp_path_factory.mktemp("runs") / "all arms"
    console = Console(record=True, width=130)
    assert ablate(Grid(_settings(base, output)), console) == 0, console.export_text()
    return output, console.export_text()


def test_every_cell_has_a_verified_result_with_items_costs_and_versions(finished):
    output, _ = finished
    store = ResultStore(output)
    cells = Manifest.read(output).cells
    assert len(cells) == 12
    for cell in cells:
        record = store.read(cell)
        assert record["status"] == "ok"
        assert len(record["train"]["losses"]) == 4
        assert set(record["evaluation"]) == {"validation", "taxonomy"}
        assert len(store.items(cell)) == sum(entry["items"] for entry in record["evaluation"].values())
        assert record["cost"]["trainable_parameters"] > 0
        assert {"torch", "peft", "manifold-lora"} <= set(record["meta"]["versions"])


def test_the_table_names_every_arm_and_the_files_are_there(finished):
    output, text = finished
    assert all(arm in text for arm in ARMS)
    assert "settings beside the defaults: {task: {style: equation, limit: 24}" in text
    assert {"table.csv", "table.png", "ablation.yaml", "manifest.json"} <= {
        path.name for path in output.iterdir()
    }


def test_gain_is_measured_for_manifold_arms_and_given_to_the_matched_control(finished):
    output, _ = finished
    records = {record["cell"]: record for record in ResultStore(output).all()}
    for record in records.values():
        arm, gains = record["run"]["arm"], record["geometry"]["gain"].values()
        if arm == "tangent":
            assert all(gain == pytest.approx(1.0) for gain in gains)
        assert bool(gains) == (arm in ("tangent", "direct", "boost"))
        if arm == "gain-matched-lora":
            assert records[record["needs"]]["run"]["arm"] == "direct"
            assert records[record["needs"]]["run"]["train"] == record["run"]["train"]


def test_tangent_trains_as_lora_does(finished):
    output, _ = finished
    losses = {
        (record["run"]["arm"], record["run"]["train"]["seed"]): record["train"]["losses"]
        for record in ResultStore(output).all()
    }
    for seed in (0, 1):
        assert losses["tangent", seed] == pytest.approx(losses["lora", seed], rel=1e-4)


def test_finished_cells_do_not_run_again_and_a_damaged_one_does(base, finished, tmp_path):
    output = tmp_path / "copy"
    shutil.copytree(finished[0], output)
    store, settings = ResultStore(output), _settings(base, output)
    before = {cell: store.path(cell).stat().st_mtime_ns for cell in Manifest.read(output).cells}
    damaged = next(iter(before))
    results = json.loads(store.path(damaged).read_text())
    store.path(damaged).write_text("{")
    assert ablate(Grid(settings), Console(record=True, width=130)) == 0
    after = {cell: store.path(cell).stat().st_mtime_ns for cell in before}
    assert [cell for cell in before if before[cell] != after[cell]] == [damaged]
    again = store.read(damaged)
    assert again["train"]["losses"] == results["train"]["losses"]
    assert again["items_sha256"] == results["items_sha256"]


def test_a_cell_that_diverges_is_a_row_with_its_reason_and_exit_1(base, tmp_path):
    grid = {"arm": ["lora", "direct"], "train.learning_rate": [1e-2, 1e38], "train.seed": [0]}
    console = Console(record=True, width=200)
    assert ablate(Grid(_settings(base, tmp_path / "out", grid=grid)), console) == 1
    statuses = [record["status"] for record in ResultStore(tmp_path / "out").all()]
    assert sorted(statuses) == ["diverged", "diverged", "ok", "ok"]
    assert "not finite" in console.export_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model", "no/such/folder/here"], "no/such/folder/here"),
        (["--adapter.target-modules", "[q_prj]"], "did you mean 'q_proj'"),
        (["--data", "/no/such/place", "--task", "word_problems"], "/no/such/place"),
        (["--task.style", "text", "--task", "taxonomy", "--data", "x"], "generates its items"),
    ],
    ids=["model folder", "target module", "data folder", "data for a generated task"],
)
def test_bad_input_exits_2_with_nothing_in_the_output_folder(
    base, tmp_path, capsys, flags, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in flags else ["--model", str(base)]
    grid = ["--grid", "{arm: [lora, direct]}", "--output", str(tmp_path / "out")]
    assert main(["ablate", *grid, *model, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_saved_adapter_is_evaluated_in_another_run_to_the_same_answers(base, tmp_path, capsys):
    out = tmp_path / "one run"
    flags = ["--model", str(base), "--task", "taxonomy", "--task.style", "equation", "--task.limit", "24"]
    flags += ["--adapter.rank", "2", "--train.steps", "3", "--output", str(out), "--cache", str(tmp_path)]
    assert main(["train", "--arm", "boost", *flags]) == 0
    assert json.loads((out / "adapter" / "adapter_config.json").read_text())["transform"] == "boost"
    assert main(["evaluate", str(out)]) == 0
    trained = json.loads((out / "result.json").read_text())
    evaluated = json.loads((out / "evaluation.json").read_text())
    assert evaluated["items"] == trained["items"]
    assert "accuracy %" in capsys.readouterr().out


def _write_word_problems(folder):
    """A folder of the data schema with problems of our own: nothing of the real files is copied."""
    rows = [
        {
            "source": "own",
            "instruction": f"Ann has {3 + place} pens and buys {2 * place + 1} more. How many pens has she?",
            "output": f"The equation is X={3 + place}+{2 * place + 1}. The answer is {4 + 3 * place}.",
            "answer": str(4 + 3 * place),
            "equation": f"X={3 + place}.0+{2 * place + 1}.0",
        }
        for place in range(40)
    ]
    (folder / "train").mkdir(parents=True)
    (folder / "tests").mkdir()
    parts = {"mawps_train": rows[:20], "mawps_single_train": rows[20:28], "mawps_valid": rows[28:34]}
    for name, part in parts.items():
        text = "".join(json.dumps(row) + "\n" for row in part)
        (folder / "train" / f"{name}_equations.jsonl").write_text(text)
    for name in ("mawps", "AddSub", "SVAMP"):
        tested = [
            {"id": f"{name}-{place}", "instruction": row["instruction"], "answer": row["answer"]}
            for place, row in enumerate(rows[34:])
        ]
        (folder / "tests" / f"{name}.json").write_text(json.dumps(tested))
    return rows


def test_a_model_from_disk_is_adapted_on_word_problems_as_plain_text(tmp_path):
    """What `make ablation DATA=FOLDER MODEL=FOLDER` runs, with a random Qwen2 in place of a trained one."""
    rows = _write_word_problems(tmp_path / "data")
    tokenizer = word_tokenizer([f"Question: {row['instruction']} Answer: {row['output']}" for row in rows])
    tokenizer.save_pretrained(tmp_path / "model")
    shape = {"hidden_size": 16, "layers": 2, "heads": 2, "intermediate_size": 32}
    tiny_model(len(tokenizer), family="qwen2", **shape).save_pretrained(tmp_path / "model")
    settings = _settings(
        tmp_path / "model",
        tmp_path / "out",
        task={"name": "word_problems", "style": "text", "data": str(tmp_path / "data")},
        evaluation={"batch_size": 24},
        grid={"arm": ["lora", "direct"], "train.seed": [0]},
    )
    console = Console(record=True, width=160)
    assert ablate(Grid(settings), console) == 0, console.export_text()
    record = ResultStore(tmp_path / "out").all()[0]
    assert {"validation", "mawps", "addsub", "svamp"} == set(record["evaluation"])
    assert set(record["meta"]["inputs"]) > {"base", "tests/mawps.json"}
    item = ResultStore(tmp_path / "out").items(record["cell"])[0]
    assert item["prompt"].startswith("Question: Ann has")


@pytest.mark.slow
def test_the_distilled_null_runs_every_cell_again_on_the_students_answers(base, tmp_path):
    grid = {"arm": ["lora", "direct"], "train.learning_rate": [1e-2], "train.seed": [0]}
    settings = _settings(base, tmp_path / "all", grid=grid, null="distilled")
    console = Console(record=True, width=200)
    assert ablate(Grid(settings), console) == 0
    assert "direct against lora on taxonomy" in console.export_text()
    (labels,) = (tmp_path / "all" / "null").glob("labels-*.json")
    truth = json.loads(labels.read_text())
    store = ResultStore(tmp_path / "all" / "null")
    cells = Manifest.read(tmp_path / "all" / "null").cells
    assert len(cells) == 2
    for cell in cells:
        assert {item["answer"] for item in store.items(cell) if item["set"] == "taxonomy"} <= {
            text for _, text in truth["taxonomy"].values()
        }
    header, *lines = (tmp_path / "all" / "null.csv").read_text().splitlines()
    assert header.startswith("arm,test,control")
    assert len(lines) == 1
    # The same command goes on where it was: nothing runs again.
    before = labels.stat().st_mtime_ns
    assert ablate(Grid(settings), Console(quiet=True)) == 0
    assert labels.stat().st_mtime_ns == before
