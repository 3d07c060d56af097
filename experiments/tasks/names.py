"""Pronounceable words that mean nothing."""

from itertools import product
from random import Random


def nonsense_names(count: int, random: Random) -> list[str]:
    """``count`` distinct words of two syllables, such as ``"bodi"``."""
    syllables = ["".join(pair) for pair in product("bdfgklmnprstvz", "aeiou")]
    return ["".join(pair) for pair in random.sample(list(product(syllables, syllables)), count)]
