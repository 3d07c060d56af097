import json

import pytest

from manifold_lora.errors import ManifoldLoraError, UnknownNameError
from manifold_lora.experiments.data.files import DataError
from manifold_lora.experiments.token_geometry.corpus import read_corpus, read_texts


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("field", ["instruction", "question", "prompt", "text"])
def test_lists_lines_and_plain_text_are_read(tmp_path, field):
    rows = [{field: "one", "id": 1}, {field: "two"}]
    as_list = write(tmp_path / "a.json", json.dumps(rows))
    as_lines = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    as_text = write(tmp_path / "c.txt", "one\n\ntwo\n")
    assert read_corpus([str(as_list), str(as_lines), str(as_text)]) == {
        name: ["one", "two"] for name in "abc"
    }


def test_sets_of_a_data_folder_go_by_name(tmp_path):
    write(tmp_path / "tests" / "gsm8k.json", '[{"instruction": "x"}]')
    write(tmp_path / "commonsense" / "piqa.test.json", '[{"instruction": "y"}]')
    assert read_corpus(["gsm8k", "piqa"], tmp_path) == {"gsm8k": ["x"], "piqa": ["y"]}


def test_generated_tasks_go_by_name():
    found = read_corpus(["taxonomy"])["taxonomy"]
    assert len(found) > 100
    assert found[0].startswith("lca ")


def test_an_unknown_set_names_the_nearest(tmp_path):
    write(tmp_path / "tests" / "gsm8k.json", '[{"instruction": "x"}]')
    with pytest.raises(UnknownNameError, match="did you mean 'gsm8k'"):
        read_corpus(["gsm8"], tmp_path)
    with pytest.raises(UnknownNameError, match="--data-folder"):
        read_corpus(["gsm8k"])


def test_no_data_is_refused():
    with pytest.raises(ManifoldLoraError, match="--data"):
        read_corpus([])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "[]", "a.json:1: rows"),
        ("a.txt", "\n \n", "a.txt:1: rows"),
        ("a.jsonl", '{"text": "x"}\n{"text": ', "a.jsonl:2: JSON"),
        ("a.jsonl", '{"text": "x"}\n{"words": "y"}', "a.jsonl:2: row"),
        ("a.json", '{"text": "x"}', "a JSON list of objects"),
        ("a.json", '[{"text": 3}]', "a.json:1: row"),
    ],
)
def test_bad_files_are_named_by_line(tmp_path, name, content, said):
    with pytest.raises(DataError, match=said):
        read_texts(write(tmp_path / name, content))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json: file"):
        read_corpus([str(tmp_path / "none.json")])
