"""What models write: signs, money, fractions, thousands, powers, calculations, cut and denied answers."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.experiments.answers.equations import evaluate_equation
from manifold_lora.experiments.answers.read import (
    equal_numbers,
    extract_choice,
    extract_letter,
    extract_number,
    number_value,
)
from manifold_lora.experiments.answers.statement import finished

# text -> the value that it states.
VALUES: dict[str, float | None] = {
    "Answer: 20 - 5 = 15": 15,
    "The answer is 5 + 3 = 8": 8,
    "-$3": -3,
    "\\boxed{-\\$7}": -7,
    "-\\frac{3}{4}": -0.75,
    "2 2/3": 2.6666666666666665,
    "\\boxed{3\\frac{1}{2}}": 3.5,
    "3½": 3.5,
    "12 345": 12345,
    "2 × 10^3": 2000,
    "#### 8\n\nQuestion: Tom has 3. #### 7": 8,
    "#### 8 Question: Tom has 3.\nAnswer: #### 7": 8,
    "$-3": -3,
    "-€ 3": -3,
    "−$3.50": -3.5,
    "–5": -5,
    "The answer is - 3": -3,
    "The answer is −$1,234.50.": -1234.5,
    "50%": 50,
    "-12.5%": -12.5,
    "\\boxed{50\\%}": 50,
    "\\dfrac{7}{2}": 3.5,
    "\\tfrac12": 0.5,
    "-2\\frac{1}{4}": -2.25,
    "$12{,}345$": 12345,
    "2 and 1/2": 2.5,
    "The answer is negative 5": -5,
    "negative $3.50": -3.5,
    "The answer is minus 5": -5,
    "It was 7 minus 5": 5,
    "Answer: 1/2 of 10 = 5": 5,
    "The answer is 20% of 50 = 10": 10,
    "The answer is 10 = 20% of 50": 10,
    "The answer is 5 of 10 apples.": 5,
    "8\n\n**Question:** Tom has 7?": 8,
    "#### 8\n\n## Question 2. Tom has 7. #### 7": 8,
    "#### 8\n> Exercise 3: #### 7": 8,
    "\\boxed{\\frac{-3}{4}}": -0.75,
    "\\boxed{\\text{12 apples}}": 12,
    "\\boxed{12\\text{ m}^2}": 12,
    "\\boxed{12\\text{ m}^{2}}": 12,
    "\\boxed{\\boxed{3}}": 3,
    "12\u202f345": 12345,
    "1\xa0234\xa0567,5": 1234567.5,
    "1.234.567,89": 1234567.89,
    "1,234,567": 1234567,
    "12,34,567": 1234567,
    "12'345": 12345,
    "12’345.5": 12345.5,
    "3,5": 3.5,
    "3,14": 3.14,
    "0,125": 0.125,
    "1,234": 1234,
    "1,2,3": 3,
    "2e3": 2000,
    "2 x 10^3": 2000,
    "2 × 10³": 2000,
    "2 \\times 10^{3}": 2000,
    "2.5*10^-2": 0.025,
    "2·10⁻²": 0.02,
    "½": 0.5,
    "1¾ cups": 1.75,
    "3 ½": 3.5,
    "-3½": -3.5,
    "The answer is 20 apples - 5 apples = 15 apples.": 15,
    "Answer: 3 * (4 + 5) = 27": 27,
    "Answer: (2+3)*4": 20,
    "The answer is 5 + 3": 8,
    "Answer: 5 - 8 = -3": -3,
    "Answer: 20 -5 = 15": 15,
    "Answer: 5 x 3 = 15": 15,
    "The answer is 20 minus 5 = 15": 15,
    "The answer is 3 (since 5 - 2 = 3).": 3,
    "The answer is **8**.": 8,
    "**Answer:** 12": 12,
    "**Answer**: 12": 12,
    "The answer is not 5 but 6.": 6,
    "Answer: $20 - $5 = $15": 15,
    "#### $1,000": 1000,
    "####-7": -7,
    "The final answer is: $\\boxed{42}$": 42,
    "$\\boxed{1{,}000}$": 1000,
    "\\boxed{12\\,345}": 12345,
    "\\boxed{12,\\!345}": 12345,
    "The answer to the question is 5.": 5,
    "10^3": 1000,
    "2^10": 1024,
    "５": 5,
    "－５": -5,
    "3⁄4": 0.75,
    "1/2 + 1/4 = 3/4": 0.75,
    "The answer is 1/2 + 1/4": 0.75,
    "7 8/4 ": 9,
    "The answer is 12": 12,
    "Q: 5": 5,
    "It takes 2 2/3 hours": 2.6666666666666665,
    "answer = 5": 5,
    "The answers are 4 and 5": 4,
    "The answer is 2x = 10": 10,
    "The answer is: \n\n 7": 7,
    "The answer is $3\\frac{1}{2}$.": 3.5,
    "so 12-7": 7,
    "Answer: 10 / 4 = 2.5": 2.5,
    "Answer: 3/4 = 0.75": 0.75,
    "The answer is 20 - 5 = 15 - 3 = 12": 12,
    "8\n\nQuestion: Jane has 4 apples.\nAnswer: 4": 8,
    "Question: what is 3+4?\nAnswer: 7": 7,
    "8\nQ: 7 apples\nA: 7": 8,
    "The answer is -\\$3": -3,
    "The answer is -\\frac{1}{2}": -0.5,
    "The answer is $-\\dfrac{5}{2}$": -2.5,
    "It is 8, not 9": 8,
    "-½": -0.5,
    "4_9": None,
    "1_000": None,
    "v1.2.3": None,
    "Correct answer - 5": 5,
    "\\boxed{ \\frac{ 1 }{ 3 } }": 0.3333333333333333,
    "The answer is 5 feet 3": 5,
    "answer is 1,5": 1.5,
    "12 345 678": 12345678,
    "the answer is 1 000 000 dollars": 1000000.0,
    "\\boxed{2\\times 10^{3}}": 2000,
    "100 000,50 EUR": 100000.5,
    "\\boxed{5 + 3}": 8,
    "\\boxed{3 + \\frac{1}{2}}": 3.5,
    "\\boxed{A = 3, B = 4}": 4,
    "\\boxed{- 7}": -7,
    "- $3": -3,
    "minus 3": -3,
    "- 3 apples": 3,
    "-USD 3": -3,
    "\\boxed{-\\text{\\$}7}": -7,
    "\\boxed{-\\pounds 7}": -7,
    "\\boxed{\\frac{3}{-4}}": -0.75,
    "\\boxed{\\frac{-3}{-4}}": 0.75,
    "\\boxed{{3}\\frac{1}{2}}": 3.5,
    "\\boxed{3\\,\\frac{1}{2}}": 3.5,
    "\\boxed{2\\cdot10^{3}}": 2000,
    "\\boxed{20 \\div4}": 5,
    "\\boxed{90^\\circ}": 90,
    "\\boxed{90^{\\circ}}": 90,
    "The answer is 5! = 120": 120,
    "Answer: 2(3+4) = 14": 14,
    "Answer: (2)(3)": 6,
    "The answer is 3 (5 - 2).": 3,
    "The answer is 3.5 million.": 3500000,
    "$2 billion": 2000000000,
    "-12 thousand": -12000,
    "The answer is 8.\n\nNext question: what? The answer is 7": 8,
    "#### 8\n\n## Question\nTom?\n#### 7": 8,
    "#### 8\nQuestion 2 - Tom?\n#### 7": 8,
    "#### 8\nExample 2: Tom?\n#### 7": 8,
    "#### 8 [INST] Tom? [/INST] #### 7": 8,
    "#### 8\n<|user|>\nTom?\n#### 7": 8,
    "The answer is 8.\nuser\nTom?\nmodel\nThe answer is 7.": 8,
    "#### 8\n\nBelow is an instruction that describes a task.\n#### 7": 8,
    "Example: 3 of 5.\nThe answer is 8.": 8,
}


@pytest.mark.parametrize("text", VALUES, ids=ascii)
def test_the_value_that_a_text_states(text: str) -> None:
    value, found = VALUES[text], extract_number(text)
    assert found is None if value is None else equal_numbers(found, value)


LETTERS = ("A", "B", "C", "D", "E")
TRUTH = ("true", "false")
LABELS = ("answer1", "answer2")
OPTIONS = ("option1", "option2")
CHOSEN = [
    ("(b)", LETTERS, "B"),
    ("b)", LETTERS, "B"),
    ("answer: b.", LETTERS, "B"),
    ("Ｂ", LETTERS, "B"),
    ("（Ｂ）", LETTERS, "B"),
    ("The answer is b", LETTERS, "B"),
    ("The answer is (c).", LETTERS, "C"),
    ("The answer is option d.", LETTERS, "D"),
    ("b", LETTERS, "B"),
    ("b.", LETTERS, "B"),
    ("The answer is a number", LETTERS, None),
    ("\\boxed{\\text{(B)}}", LETTERS, "B"),
    ("\\boxed{\\textbf{B}}", LETTERS, "B"),
    ("$\\boxed{b}$", LETTERS, "B"),
    ("Answer: **C**", LETTERS, "C"),
    ("B) 12", LETTERS, "B"),
    ("The answer is not A but B.", LETTERS, "B"),
    ("not true", TRUTH, "false"),
    ("The answer is not true.", TRUTH, "false"),
    ("It isn't true", TRUTH, "false"),
    ("It cannot be true", TRUTH, "false"),
    ("It is no longer true", TRUTH, "false"),
    ("That is not at all true", TRUTH, "false"),
    ("It's not the case that it is true", TRUTH, "false"),
    ("That is hardly false", TRUTH, "true"),
    ("The answer is 'C'", LETTERS, "C"),
    ("I'm sure it is 'B'.", LETTERS, "B"),
    ("True", TRUTH, "true"),
    ("the correct answer is false", TRUTH, "false"),
    ("answer 2", LABELS, "answer2"),
    ("The correct answer is ａｎｓｗｅｒ２", LABELS, "answer2"),
    ("the correct answer is not answer1", LABELS, None),
    ("(B)\n\nQuestion: what (A) 3 (B) 4\nAnswer: A", LETTERS, "B"),
    ("[b]", LETTERS, "B"),
    ("Correct answer - A", LETTERS, "A"),
    ("The answer is (D) because A is wrong", LETTERS, "D"),
    ("Ⓒ", LETTERS, "C"),
    ("answer: Ｂ", LETTERS, "B"),
    ("ANSWER: B", LETTERS, "B"),
    ("The answer is B: 12", LETTERS, "B"),
    ("Answer: (b) 12", LETTERS, "B"),
    ("option2.", OPTIONS, "option2"),
    ("The correct option is c.", LETTERS, "C"),
    ("\\boxed{\\text{b}}", LETTERS, "B"),
    ("I choose d", LETTERS, "D"),
    ("So option c is right", LETTERS, "C"),
    ("It is the option a person has", LETTERS, None),
    ("Ans: e", LETTERS, "E"),
    ("That is untrue.", TRUTH, "false"),
    ("true is wrong", TRUTH, "false"),
    ("answer2 is correct, answer1 is wrong", LABELS, "answer2"),
    ("answer #1", LABELS, "answer1"),
    ("option-2", OPTIONS, "option2"),
    ("New York", ("New", "New York", "Paris"), "New York"),
    ("The answer is new", ("New", "New York", "Paris"), "New"),
    ("answer 1", ("answer 1", "answer 2"), "answer 1"),
    ("twenty-one", ("one", "twenty-one"), "twenty-one"),
    ("The answer is 2", ("1", "2", "3"), "2"),
    ("2.5", ("2", "5"), None),
    ("It is C++.", ("C", "C++"), "C++"),
]


@pytest.mark.parametrize(("text", "choices", "choice"), CHOSEN, ids=ascii)
def test_the_choice_that_a_text_names(text: str, choices: tuple[str, ...], choice: str | None) -> None:
    assert extract_choice(text, choices) == choice


# A text that the token limit has cut -> what may be read of it.
CUT: dict[str, float | None] = {
    "The answer is 12": None,
    "The answer is 12.": None,
    "The answer is 12. ": 12,
    "The answer is 12.\nSo": 12,
    "so 5 + 3 = 8": None,
    "#### 8\nQues": 8,
    "#### 8 Question: a 7": 8,
    "8\n\nQuestion: x 5": 8,
    "so \\boxed{12} an": 12,
    "\\boxed{12": None,
    "The answer is 5. No, the answer is 7": 5,
    "20 - 5 = 15.\nThen 3": None,
}


@pytest.mark.parametrize("text", CUT, ids=ascii)
def test_nothing_is_read_of_a_statement_that_was_cut(text: str) -> None:
    value, found = CUT[text], extract_number(finished(text))
    assert found is None if value is None else equal_numbers(found, value)


@given(st.integers(0, 10**12), st.sampled_from([",", " ", "\u202f", "\u00a0", "\u2009", "'", "’"]))
def test_thousands_are_read_back(number: int, mark: str) -> None:
    assert number_value(extract_number(f"The answer is {number:,}.".replace(",", mark)) or "") == number


@given(st.integers(-999, 999), st.integers(0, 20), st.integers(1, 20), st.sampled_from(["{}", "${}$", "${}"]))
def test_fractions_are_read_back(whole: int, over: int, under: int, frame: str) -> None:
    value = abs(whole) + Fraction(over, under)
    for text in (f"{abs(whole)} {over}/{under}", rf"{abs(whole)}\frac{{{over}}}{{{under}}}"):
        sign = "-" if whole < 0 else ""
        found = extract_number(f"The answer is {sign}{frame.format(text)}.")
        assert number_value(found) == pytest.approx(float(-value if whole < 0 else value))


@given(
    st.lists(st.integers(1, 99), min_size=2, max_size=5),
    st.lists(st.sampled_from("+-*/"), min_size=4, max_size=4),
    st.sampled_from(["", " apples", "%"]),
)
def test_a_calculation_is_its_result(numbers: list[int], signs: list[str], unit: str) -> None:
    """With or without the equals sign, the answer is what the whole comes to."""
    side = f" {signs[0]} ".join([f"{numbers[0]}{unit}", str(numbers[1])])
    for sign, number in zip(signs[1:], numbers[2:], strict=False):
        side += f" {sign} {number}"
    value = evaluate_equation(side.replace(unit, "") if unit else side)
    assert equal_numbers(extract_number(f"The answer is {side}."), value)
    assert equal_numbers(extract_number(f"The answer is {side} = {value!r}{unit}."), value)


@given(st.text(alphabet="0123456789-+=*/×x(){}[]$,.' \\\nabefxn½²#") | st.text(), st.integers(0, 60))
def test_any_text_is_read_and_cut_without_an_exception(text: str, end: int) -> None:
    for part in (text, text[:end], finished(text)):
        found = extract_number(part)
        assert found is None or number_value(found) is not None
        assert extract_choice(part, TRUTH) in (None, *TRUTH)
        assert extract_letter(part) in (None, *LETTERS)


@given(
    st.lists(st.sampled_from(["The answer is ", "12", ".", " ", "\n", "3", "#### ", "\\boxed{", "}", "so"])),
    st.text("0123456789.,", min_size=1),
)
def test_what_is_read_of_a_cut_text_does_not_hang_on_what_was_cut(parts: list[str], rest: str) -> None:
    """Whatever digits would have followed, they change nothing."""
    text = "".join(parts)
    assert finished(text + rest) == finished(text)


HOSTILE = [
    "1,21" * 9999,
    "1,234" * 9999,
    "12 345 " * 9999,
    "answer: " + "5 + " * 9999,
    "Question: 5 " * 9999,
    "Question: " * 9999,
    "½" * 20000,
    "ﷺ" * 20000,
    "not 5 " * 9999,
    "b) " * 9999,
    "answer  a" * 9999,
    " " * 20000,
    "2 × 10^" * 5000,
    "1'" * 9999,
    "\\frac12" * 5000,
    "^{1}" * 9999,
    "{" * 20000 + "}" * 20000,
    "answer: " + "(" * 19000 + "1" + ")" * 500,
    "answer: " + "a " * 9999,
    "\n \n" * 9999,
    "\\text{" * 9999,
    "answer: " + "9*" * 9999 + "9",
    "-" * 1_000_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_a_hostile_text_takes_under_100_ms_a_reading(text: str) -> None:
    start = time.process_time()
    extract_number(text)
    extract_letter(text)
    extract_choice(text, TRUTH)
    finished(text)
    assert time.process_time() - start < 0.4  # four readings
