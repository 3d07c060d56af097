"""How each hub data set says question and answer, in the instruction formats of LLM-Adapters."""

from collections.abc import Sequence

from manifold_lora.experiments.answers.read import number_value
from manifold_lora.experiments.data.hub import Converted, HubRow
from manifold_lora.experiments.data.rows import GradeSchoolRow


def _number(value: object) -> str:
    """Digits of a number given as a number, or as text with commas or a unit."""
    text = str(value).replace(",", "").strip()
    return text if number_value(text) is not None else text.split(" ")[0]


def _stated(question: str, answer: object) -> Converted:
    return question.strip(), f"The answer is {_number(answer)}.", _number(answer)


def gsm8k(row: HubRow) -> Converted:
    """openai/gsm8k: question, answer (rationale, ``#### N``)."""
    read = GradeSchoolRow(question=row["question"], answer=row["answer"])
    return read.instruction, read.output, read.number


def aqua(row: HubRow) -> Converted:
    """deepmind/aqua_rat: question, options (``A)21``), rationale, correct."""
    choices = " ".join(f"({option[0]}) {option[2:].strip()}" for option in row["options"])
    instruction = f"{row['question'].strip()} Answer Choices: {choices}"
    return instruction, f"{row['rationale'].strip()}\nThe answer is ({row['correct']}).", row["correct"]


def mawps(row: HubRow) -> Converted:
    """MU-NLPC/Calc-mawps: question, expression, result_float."""
    answer = f"{float(row['result_float']):.10g}"
    return row["question"].strip(), f"The equation is X={row['expression']}. The answer is {answer}.", answer


def svamp(row: HubRow) -> Converted:
    """ChilleD/SVAMP: Body, Question, Answer."""
    body = row["Body"].strip()
    return _stated(f"{body}{'' if body.endswith(('.', ',', '?')) else '.'} {row['Question']}", row["Answer"])


def multiarith(row: HubRow) -> Converted:
    """ChilleD/MultiArith: question, final_ans."""
    return _stated(row["question"], row["final_ans"])


def lila(row: HubRow) -> Converted:
    """allenai/lila (addsub, singleq): input, output_answer."""
    return _stated(row["input"], row["output_answer"])


def _chosen(head: str, kind: str, choices: Sequence[str], right: int, gap: str = " ") -> Converted:
    """``kind1: ... kind2: ...`` and the line that names the labels."""
    if not 0 <= right < len(choices):
        raise ValueError(f"answer {right + 1} of {len(choices)} choices")
    shown = gap.join(f"{kind.title()}{place}: {choice.strip()}" for place, choice in enumerate(choices, 1))
    labels = [f"{kind}{place}" for place in range(1, len(choices) + 1)]
    end = " " if kind == "option" else "\n\n"
    instruction = f"{head.strip()}\n\n{shown}{end}Answer format: {'/'.join(labels)}"
    return instruction, f"the correct answer is {labels[right]}", labels[right]


_ASK = "Please choose the correct answer to the question: "


def boolq(row: HubRow) -> Converted:
    """google/boolq: question, answer (a bool); the passage is not shown, as in LLM-Adapters."""
    if not isinstance(row["answer"], bool):
        raise ValueError(f"answer {row['answer']!r} is no truth value")
    answer = str(row["answer"]).lower()
    head = "Please answer the following question with true or false, question: "
    question = f"{head}{row['question'].strip().rstrip('?')}?\n\nAnswer format: true/false"
    return question, f"the correct answer is {answer}", answer


def piqa(row: HubRow) -> Converted:
    """baber/piqa: goal, sol1, sol2, label (0 or 1)."""
    head = "Please choose the correct solution to the question: "
    choices = [row["sol1"], row["sol2"]]
    return _chosen(head + row["goal"], "solution", choices, int(row["label"]), gap="\n\n")


def social_i_qa(row: HubRow) -> Converted:
    """lighteval/siqa: context, question, answerA, answerB, answerC, label (``"1"`` to ``"3"``)."""
    choices = [row["answerA"], row["answerB"], row["answerC"]]
    return _chosen(f"{_ASK}{row['context']} {row['question']}", "answer", choices, int(row["label"]) - 1)


def hellaswag(row: HubRow) -> Converted:
    """Rowan/hellaswag: activity_label, ctx, endings, label (``"0"`` to ``"3"``)."""
    head = "Please choose the correct ending to complete the given sentence: "
    return _chosen(
        f"{head}{row['activity_label']}: {row['ctx']}", "ending", row["endings"], int(row["label"])
    )


def winogrande(row: HubRow) -> Converted:
    """allenai/winogrande: sentence, option1, option2, answer (``"1"`` or ``"2"``)."""
    head = "Please choose the correct answer to fill in the blank to complete the given sentence: "
    return _chosen(head + row["sentence"], "option", [row["option1"], row["option2"]], int(row["answer"]) - 1)


def arc(row: HubRow) -> Converted:
    """allenai/ai2_arc: question, choices (text, label), answerKey."""
    right = list(row["choices"]["label"]).index(row["answerKey"])
    return _chosen(_ASK + row["question"], "answer", row["choices"]["text"], right)


def openbookqa(row: HubRow) -> Converted:
    """allenai/openbookqa: question_stem, choices (text, label), answerKey."""
    right = list(row["choices"]["label"]).index(row["answerKey"])
    return _chosen(_ASK + row["question_stem"], "answer", row["choices"]["text"], right)
