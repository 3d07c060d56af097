"""Generated word problems over N0, N1, ... for the base of the word-problem task."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

# Question and equation. # is the next number, a the first, b the second; {p}, {q} persons, {t}, {u} things,
# {b} what holds them; words with bars between them are a choice.
_PROBLEMS = (
    ("{p} {had} # {t} . {p} {gain} # more . how many {t} does {p} have {now}", "a + b"),
    ("{p} {had} # {t} . {q} gave|brought {p} # more|{t} . how many {t} are there {now}", "a + b"),
    ("{p} {gain} # {t} and {q} {gain} # {t} . how many {t} did they have {now}", "a + b"),
    ("there are # {t} and # {u} in the {b} . how many are there {now}", "a + b"),
    ("there are # {t} in the {b} . {p} put|placed|adds # {t}|more . how many are there {now}", "a + b"),
    ("{p} spent $ # on {t} and $ # on {u} . how much did {p} spend {now}", "a + b"),
    ("{p} {loss} # of the {t} and has # left|now . how many {t} did {p} start with ?", "a + b"),
    ("{p} {had} # {t} . {p} {loss} # . how many {t} does {p} have now|left ?", "a - b"),
    ("{p} {had} # {t} . {q} took|borrowed # of them . how many {t} are left ?", "a - b"),
    ("there are # {t} in the {b} . {p} took|removed # {t} . how many are there now|left ?", "a - b"),
    ("{p} has # {t} . {q} has # {t} . how many more {t} does {p} have than {q} ?", "a - b"),
    ("{p} {gain} # {t} and # {u} . how many more {t} than {u} did {p} have ?", "a - b"),
    ("there were # {t} . # of them are {u} . how many are not {u} ?", "a - b"),
    ("{p} {had} # {t} . {p} {gain} some more and has # now . how many did {p} get|buy ?", "b - a"),
    ("{p} {gain} # more {t} and now has # . how many {t} did {p} start with ?", "b - a"),
    ("{p} has # {t} . {p} needs|wants # {now} how many more {t} does {p} need ?", "b - a"),
    ("{p} bought # {b} of {t} with # in each {b} . how many {t} are there {now}", "a * b"),
    ("each of the # {b} holds|has|needs # {t} . how many {t} are there {now}", "a * b"),
    ("there are # {t} in each {b} . how many {t} are in # {b} ?", "a * b"),
    ("{p} earns|pays|spends # dollars for each {t} . how much for # {t} ?", "a * b"),
    ("{p} puts # {t} into # {b} with the same number in each . how many in each {b} ?", "a / b"),
    ("# {t} were shared among|between # {b} . how many {t} did each get ?", "a / b"),
    ("{p} has # {t} and puts # in each of the {b} . how many {b} are needed|filled ?", "a / b"),
    ("{p} {had} # {t} . {p} {gain} # more and then {loss} # . how many {t} are left ?", "a + b - c"),
    ("{p} {had} # {t} . {p} {loss} # and then {gain} # . how many {t} are there {now}", "a - b + c"),
    ("{p} {had} # {t} . {q} took # and {p} {loss} # . how many {t} are left ?", "a - b - c"),
    ("{p} {gain} # {t} , {q} {gain} # {t} and # more . how many {t} {now}", "a + b + c"),
    ("{p} {had} # {t} . {p} {loss} # and put the rest in {b} of # . how many {b} ?", "( a - b ) / c"),
    ("{p} {had} # {t} and # {u} . with # in each , how many {b} are needed ?", "( a + b ) / c"),
    ("{p} has # {b} of {t} and # {b} of {u} . if each has # , how many {now}", "c * ( a + b )"),
    ("each of # {b} holds|has # {t} and # {u} . how many things {now}", "a * ( b + c )"),
    ("{p} {had} # {b} and {loss} # . with # {t} in each , how many {t} are left ?", "c * ( a - b )"),
    ("{p} has # {b} with # {t} in each and # more {t} . how many {t} {now}", "a * b + c"),
    ("{p} has # {b} of # {t} . {p} {loss} # . how many {t} are left ?", "a * b - c"),
    ("{p} has # {b} of # {t} and # {b} of # {u} . how many things {now}", "a * b + c * d"),
)
_CHOICES = {
    "had": "had|has",
    "gain": "got|found|bought|picked|received|made|won|collected",
    "loss": "lost|gave away|sold|used|ate|broke|spent|returned",
    "now": "now ?|in all ?|in total ?|altogether ?",
}
# A number that the question does not ask for.
_ASIDES = ("{q} is # years old", "it took # minutes", "{q} has # {u}", "there are # {u} there")


@dataclass(frozen=True)
class Words:
    """The words that fill the blanks."""

    persons: Sequence[str]
    things: Sequence[str]

    @classmethod
    def of(cls, questions: Iterable[str]) -> "Words":
        """Things are what the questions count, persons are who has; in order of appearance."""
        text = " ".join(questions)
        things = re.findall(r"(?:N\d+|how many) ([a-z]{3,})", text)
        persons = re.findall(r"\b([a-z]{3,}) (?:has|had|bought|found|gave|got|picked|went|earned)\b", text)
        return cls([*dict.fromkeys(persons)], [*dict.fromkeys(things)])


def generated_problems(count: int, random: Random, words: Words) -> Iterator[tuple[str, str]]:
    """``count`` pairs of a question and its equation; one question in four tells a number too many."""
    for _ in range(count):
        question, equation = random.choice(_PROBLEMS)
        if random.random() < 0.25:
            question, equation = _with_aside(question, equation, random)
        yield _filled(question, random, words), _named(equation)


def _with_aside(question: str, equation: str, random: Random) -> tuple[str, str]:
    sentences = question.split(" . ")
    place = random.randrange(len(sentences))
    before = " . ".join(sentences[:place]).count("#")
    sentences.insert(place, random.choice(_ASIDES))
    later = {chr(97 + index): chr(98 + index) for index in range(before, 4)}
    return " . ".join(sentences), "".join(later.get(mark, mark) for mark in equation)


def _filled(question: str, random: Random, words: Words) -> str:
    person, other = random.sample(words.persons, 2)
    thing, another, box = random.sample(words.things, 3)
    choices = {name: random.choice(choice.split("|")) for name, choice in _CHOICES.items()}
    text = question.format(p=person, q=other, t=thing, u=another, b=box, **choices)
    picked = re.sub(r"\S+\|\S+", lambda match: random.choice(match.group().split("|")), text)
    first, *rest = picked.split("#")
    return first + "".join(f"N{index}{part}" for index, part in enumerate(rest))


def _named(equation: str) -> str:
    return "".join(f"N{ord(mark) - 97}" if mark.isalpha() else mark for mark in equation)
