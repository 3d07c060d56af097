"""What a perfect model would score: 100 %, or the run is refused with the figures."""

import json
from dataclasses import replace

import pytest
from transformers import PreTrainedTokenizerFast

from manifold_lora.errors import ManifoldLoraError
from manifold_lora.experiments.cli import main
from manifold_lora.experiments.runs.ceiling import ceiling
from manifold_lora.experiments.settings.parse import validate
from manifold_lora.experiments.settings.run import RunSettings
from manifold_lora.experiments.tasks import Task, build_task
from manifold_lora.experiments.tasks.base import Splits
from manifold_lora.experiments.tasks.whole_text import WholeText
from manifold_lora.models.tiny import word_tokenizer


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task("arithmetic", limit=40)


@pytest.fixture(scope="module")
def tokenizer(task: Task) -> PreTrainedTokenizerFast:
    return word_tokenizer((document.text for document in task.pretraining_texts()), split_digits=True)


def run_of(**evaluation: object) -> RunSettings:
    return validate(RunSettings, {"evaluation": evaluation}, "test")


def test_a_perfect_model_scores_100_and_the_limit_is_derived(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = ceiling(task, tokenizer, run_of())
    assert found.scores() == {"train": 1.0, "validation": 1.0, "arithmetic": 1.0}
    longest = max(
        len(tokenizer(example.target, add_special_tokens=False)["input_ids"]) for example in task.train
    )
    assert found.sets["train"].longest == longest
    assert found.sets["train"].needed == longest + 1
    assert found.max_new_tokens == longest + 1 + max(4, longest // 4)
    found.check()


def test_the_limit_that_just_does_and_one_less(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    needed = max(each.needed for each in ceiling(task, tokenizer, run_of()).sets.values())
    ceiling(task, tokenizer, run_of(max_new_tokens=needed)).check()
    short = ceiling(task, tokenizer, run_of(max_new_tokens=needed - 1))
    with pytest.raises(
        ManifoldLoraError, match=rf"max_new_tokens: got {needed - 1}; allowed: at least {needed}"
    ):
        short.check()


def test_a_limit_that_cuts_is_refused_with_the_figures_and_warn_goes_on(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    found = ceiling(task, tokenizer, run_of(max_new_tokens=5))
    assert found.scores() == {"train": 0.0, "validation": 0.0, "arithmetic": 0.0}
    assert len(found.sets["train"].cut) == 40
    assert found.sets["train"].unread == ()
    with pytest.raises(ManifoldLoraError, match=r"would score 0\.0 % on train.*--preflight warn"):
        found.check()
    lines: list[str] = []
    found.check("warn", lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("warning: evaluation.max_new_tokens")


class Contradicting(WholeText):
    """A task two of whose training targets end in another number than their answer."""

    @property
    def splits(self) -> Splits:
        splits = self._task.splits
        rows = [
            replace(row, target=f"{row.target} = 99999") if place in (3, 7) else row
            for place, row in enumerate(splits.train)
        ]
        return replace(splits, train=rows)


def test_targets_that_contradict_their_answer_are_named(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    wrong = Contradicting(task)
    found = ceiling(wrong, tokenizer, run_of())
    assert found.sets["train"].unread == (task.train[3].id, task.train[7].id)
    assert found.scores() == {"train": 0.95, "validation": 1.0, "arithmetic": 1.0}
    with pytest.raises(ManifoldLoraError) as caught:
        found.check()
    message = str(caught.value)
    assert "gold texts of the task: got '2 that are not'" in message
    assert task.train[3].id in message
    assert "95.0 % on train" in message


def test_only_what_is_answered_and_learned_counts(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    wrong = Contradicting(task)
    learned = [row for at, row in enumerate(wrong.train) if at not in (3, 7)]
    ceiling(wrong, tokenizer, run_of(), learned=learned).check()
    cut = ceiling(task, tokenizer, run_of(limit=5, max_new_tokens=1))
    assert [len(each.cut) for each in cut.sets.values()] == [40, 5, 5]


def test_a_stop_token_within_a_gold_text_cuts_it(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    equals = tokenizer.convert_tokens_to_ids("▁=")
    found = ceiling(task, tokenizer, run_of(), stops=[equals])
    assert found.sets["train"].score < 0.2  # some first numbers happen to be the answer
    assert len(found.sets["train"].unread) > 32


def test_a_run_is_refused_before_it_trains(base, tmp_path, capsys) -> None:
    flags = ["train", "--model", base, "--task.style", "equation", "--task.limit", "8", "--train.steps", "2"]
    flags += ["--adapter.rank", "2", "--evaluation.max-new-tokens", "1", "--cache", str(tmp_path)]
    assert main([*flags, "--output", str(tmp_path / "a")]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "evaluation.max_new_tokens: got 1; allowed: at least 2" in message
    assert not (tmp_path / "a" / "adapter").exists()
    assert main([*flags, "--output", str(tmp_path / "b"), "--preflight", "warn"]) == 0
    assert "a perfect model would score 0.0 %" in capsys.readouterr().out
    result = json.loads((tmp_path / "b" / "result.json").read_text())
    assert result["ceiling"] == {"train": 0.0, "validation": 0.0, "taxonomy": 0.0}
    assert all(entry["truncated"] == entry["items"] for entry in result["evaluation"].values())
    assert all(item["extracted"] == "" for item in result["items"])
