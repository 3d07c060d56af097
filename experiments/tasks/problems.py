"""Generated word problems over N0, N1, ... for the base of the word-problem task."""

from collections.abc import Iterator
from random import Random

from manifold_lora.experiments.tasks.base import Document

_PEOPLE = ("tom", "mary", "sam", "jane", "mike", "sara", "joan", "fred", "dan", "amy", "he", "she")
_THINGS = ("apples", "books", "marbles", "cards", "pencils", "cookies", "shells", "dollars")
_BOXES = ("boxes", "bags", "rows", "packs", "shelves", "days", "hours", "tables")

# Question and equation; # is the next number, {p} and {q} persons, {t} and {u} things, {b} what holds them.
_PROBLEMS = (
    ("{p} has # {t} . {p} gets # more . how many {t} does {p} have now ?", "a + b"),
    ("{p} had # {t} and {q} had # {t} . how many {t} do they have in all ?", "a + b"),
    ("there are # {t} and # {u} . how many are there altogether ?", "a + b"),
    ("{p} had # {t} . {p} gave # to {q} . how many {t} does {p} have left ?", "a - b"),
    ("{p} has # {t} . {q} has # {t} . how many more {t} does {p} have than {q} ?", "a - b"),
    ("{p} has some {t} . {p} gets # more and now has # . how many did {p} start with ?", "b - a"),
    ("{p} has # {t} . {p} needs # . how many more {t} does {p} need ?", "b - a"),
    ("{p} bought # {b} of {t} with # in each . how many {t} are there ?", "a * b"),
    ("each of the # {b} holds # {t} . how many {t} are there in total ?", "a * b"),
    ("{p} puts # {t} into # {b} . how many {t} are in each ?", "a / b"),
    ("{p} has # {t} and puts # in each of the {b} . how many {b} are needed ?", "a / b"),
    ("{p} had # {t} . {p} got # more and then lost # . how many {t} are left ?", "a + b - c"),
    ("{p} had # {t} . {p} lost # and then found # . how many {t} are there now ?", "a - b + c"),
    ("{p} had # {t} . {q} took # and # more . how many {t} are left ?", "a - b - c"),
    ("{p} got # {t} , # {u} and # more . how many things is that altogether ?", "a + b + c"),
    ("{p} had # {t} . after losing # the rest was put into {b} of # . how many {b} ?", "( a - b ) / c"),
    ("{p} had # {t} and # {u} . with # in each , how many {b} are needed ?", "( a + b ) / c"),
    ("{p} has # {b} of {t} and # {b} of {u} . if each holds # , how many are there ?", "( a + b ) * c"),
    ("each of # {b} holds # {t} and # {u} . how many things are there in total ?", "a * ( b + c )"),
    ("{p} had # {b} and lost # . with # {t} in each , how many {t} are left ?", "( a - b ) * c"),
    ("{p} has # {b} with # {t} in each and # more {t} . how many {t} are there ?", "a * b + c"),
    ("{p} has # {b} of # {t} . {p} gives # away . how many {t} are left ?", "a * b - c"),
    ("{p} has # {b} of # {t} and # {b} of # {u} . how many things in total ?", "a * b + c * d"),
)
# A number that the question does not ask for.
_ASIDES = ("{q} is # years old .", "it took # minutes .", "{q} has # {u} .", "there are # people there .")


def generated_problems(count: int, random: Random) -> Iterator[Document]:
    """``count`` problems with the equation that solves them; one in five tells a number too many."""
    for _ in range(count):
        question, equation = random.choice(_PROBLEMS)
        if random.random() < 0.2:
            question, equation = f"{random.choice(_ASIDES)} {question}", _shifted(equation)
        person, other = random.sample(_PEOPLE, 2)
        thing, another = random.sample(_THINGS, 2)
        text = question.format(p=person, q=other, t=thing, u=another, b=random.choice(_BOXES))
        yield Document(f"{_numbered(text)} => {_named(equation)}")


def _shifted(equation: str) -> str:
    return "".join(chr(ord(mark) + 1) if mark.isalpha() else mark for mark in equation)


def _named(equation: str) -> str:
    return "".join(f"N{ord(mark) - ord('a')}" if mark.isalpha() else mark for mark in equation)


def _numbered(text: str) -> str:
    first, *rest = text.split("#")
    return first + "".join(f"N{index}{part}" for index, part in enumerate(rest))
