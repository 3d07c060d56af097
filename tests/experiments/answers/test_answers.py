"""Answers are read out of any text: never an exception, never slowly, and the right one."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifold_lora.experiments.answers.read import equal_numbers, extract_letter, extract_number, number_value

READINGS = {
    "": None,
    "   \n": None,
    "no number here": None,
    "42": "42",
    "-7": "-7",
    "−7": "-7",
    "3.50": "3.50",
    ".5": ".5",
    "1,234,567.5 apples": "1234567.5",
    "$18.00": "18.00",
    "18 dollars and 20 cents": "20",
    "50%": "50",
    "5 kg": "5",
    "12cm": "12",
    "The answer is 8.": "8",
    "The answer is 8. The other was 9.": "8",
    "the answer is: -3.5": "-3.5",
    "Answer: 7 of 9": "7",
    "step 1: 2 + 3 = 5": "5",
    "5 + 6 = 11 #### 11": "11",
    "#### 1,000": "1000",
    r"so \boxed{12} of 99": "12",
    r"\boxed{\frac{3}{4}} ... 9": "3/4",
    r"\boxed{1} then \boxed{2}": "2",
    r"\frac{1}{2}": "1/2",
    "3/4": "3/4",
    "1/0": None,
    "٤٢": "42",
    "４２": "42",
    "x²": None,
    "N0 + N1": None,
    "10^400": None,
    "1e5": "1e5",
    "9" * 400: None,
    "7 then " + "9" * 400: "7",
    "v1.2.3": None,
    "12 - 7 = 5": "5",
    "12-7": "7",
    "(8)": "8",
    "[8]": "8",
    "8.": "8",
    "8,": "8",
    "8;9": "9",
    "nan": None,
    "inf": None,
    "Infinity": None,
    "-": None,
    "--5": "-5",
    "+5": "5",
    "5-": "5",
    "0": "0",
    "00012": "00012",
    "1_000": None,
    "the answer is unknown but 6": "6",
    "the answer is": None,
    "answer is 1,5": "1.5",
    "\x00 5 \x00": "5",
    "\ud800 5": "5",
    "5\u200b": "5",
    "🙂 5 🙂": "5",
    "\\boxed{": None,
    "\\boxed{}": None,
    "\\boxed{x} 4": "4",
    "\\frac{1}{0} 4": "4",
    "five": None,
}


@pytest.mark.parametrize("text", READINGS, ids=lambda text: repr(text[:24]))
def test_the_number_of_a_text(text: str) -> None:
    assert extract_number(text) == READINGS[text]


LARGE = ["9" * 1_000_000, "1 " * 500_000, "((((" * 250_000, "1,2" * 300_000, "\\boxed{" * 150_000]
LARGE += ["answer is " * 100_000, "1/" * 500_000, "-" * 1_000_000, "1." * 500_000, "A " * 500_000]


@pytest.mark.parametrize("text", LARGE, ids=lambda text: repr(text[:12]))
def test_a_megabyte_takes_under_100_ms(text: str) -> None:
    def seconds() -> float:
        start = time.process_time()
        extract_number(text)
        extract_letter(text)
        return time.process_time() - start

    # Two readings; the best of three, for other processes slow a core down.
    assert min(seconds() for _ in range(3)) < 0.2


@given(st.text())
def test_any_text_is_answered_by_a_finite_number_or_none(text: str) -> None:
    found = extract_number(text)
    assert found is None or math.isfinite(number_value(found))


@given(st.integers(-(10**12), 10**12))
def test_a_number_in_a_sentence_is_read_back(number: int) -> None:
    assert number_value(extract_number(f"So there are {number:,} left.")) == number


@given(st.floats(-1e6, 1e6), st.floats(-1e-4, 1e-4))
def test_equal_within_the_tolerance(number: float, off: float) -> None:
    assert equal_numbers(number, number + off)
    assert not equal_numbers(number, number + 0.01)


def test_no_number_equals_nothing() -> None:
    assert not equal_numbers(None, None)
    assert not equal_numbers("x", "x")
    assert not equal_numbers("nan", "nan")


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("The answer is C.", "C"),
        ("The answer is (D) because A is wrong", "D"),
        ("A man has 5. E", "E"),
        (r"\boxed{A}", "A"),
        ("answer: b", "B"),
        ("X Y Z", None),
        ("", None),
        ("BE", None),
        ("A or (B)", "B"),
    ],
)
def test_the_letter_of_a_text(text: str, letter: str | None) -> None:
    assert extract_letter(text) == letter
