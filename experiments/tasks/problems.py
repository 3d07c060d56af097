"""Generated word problems over N0, N1, ... for the base of the word-problem task."""

from collections.abc import Iterator
from random import Random

from manifold_lora.experiments.tasks.base import Document

_PEOPLE = ("tom", "mary", "sam", "jane", "mike", "sara", "joan", "fred", "dan", "amy")
_THINGS = (
    "apples",
    "books",
    "marbles",
    "cards",
    "pencils",
    "balloons",
    "cookies",
    "pens",
    "shells",
    "dollars",
)
_STEPS = {
    "+": ("{p} found {n} more", "{p} bought {n} more", "a friend gave {p} {n}", "{p} got {n} from school"),
    "-": ("{p} lost {n}", "{p} gave {n} away", "{p} ate {n}", "{p} sold {n} of them"),
    "*": ("then there were {n} times as many", "each of {n} friends has as many"),
    "/": ("they were put into {n} boxes", "they were shared by {n} friends"),
}
_ENDS = ("how many {t} are there now ?", "how many {t} does {p} have ?", "how many are left ?")


def generated_problems(count: int, random: Random) -> Iterator[Document]:
    """``count`` problems of one to three steps with the equation that solves them."""
    for _ in range(count):
        person, thing = random.choice(_PEOPLE), random.choice(_THINGS)
        sentences, equation = [f"{person} had N0 {thing} ."], "N0"
        for step in range(1, random.randint(1, 3) + 1):
            operator = random.choice("++--*/")
            said = random.choice(_STEPS[operator]).format(p=person, n=f"N{step}")
            sentences.append(f"{said} .")
            if operator in "*/" and step > 1:
                equation = f"( {equation} )"
            equation = f"{equation} {operator} N{step}"
        sentences.append(random.choice(_ENDS).format(p=person, t=thing))
        yield Document(f"{' '.join(sentences)} => {equation}")
