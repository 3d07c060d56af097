"""Numerals as people and models write them: one grammar, from any text to plain digits. No input raises."""

import math
import re
import unicodedata

# An answer stands at the end; a bound on the text bounds the time.
TAIL = 20_000
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+", strict=True))
_RAISED = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_AFTER_DIGIT = re.compile(r"(?<=\d)(?=[¼-¾⅐-⅞↉])")
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_ONE_FOR_ONE = str.maketrans({"−": "-", "‐": "-", "‑": "-", "‒": "-", "–": "-", "⁄": "/", "∕": "/", "’": "'"})

# LaTeX that stands inside a numeral, and what it is in plain text.
_LATEX = (
    (re.compile(r"\\[!{}]|\\left\b|\\right\b|\^\s*(?:\{\s*)?\\circ\b(?:\s*\})?"), ""),
    (re.compile(r"\{,\}|\\[,;: ](?=\d{3})|(?<=\d)~(?=\d{3})"), ","),
    (re.compile(r"\\([$%€£])"), r"\1"),
    (re.compile(r"\\pounds?(?![A-Za-z])"), "£"),
    (re.compile(r"\\(?:text|math|mbox)(?:rm|bf|it)?\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])"), "×"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(r"\^\s*\{\s*([-+]?\d{1,9})\s*\}"), r"^\1"),
)
_LARGE = {"thousand": 3, "million": 6, "billion": 9}
_TERM = r"(?:\{\s*(-?[\d.,]{1,40})\s*\}|(\d))"
_FRACTION = re.compile(
    rf"(?:\{{(?P<braced>\d{{1,9}})\}}|(?P<whole>\d?))(?:\s|~|\\[,;:! ])*\\[dtc]?frac\s*{_TERM}\s*{_TERM}"
)

NUMERAL = re.compile(
    r"""
    (?<![\w.^])
    (?:(?<![)\]}%'])(?P<sign>[-+]))? (?:(?:[A-Z]{0,3}[$€£¥₹]|(?:USD|EUR|GBP)\b)[ ]?(?P<inner>-)?)?
    (?P<body>
      (?P<whole>\d{1,9})[ ](?:and[ ])?(?P<part>\d{1,9}/\d{1,9})(?![\d/])     # 2 2/3  2 and 2/3
    | (?:
        (?P<commas>(?<!\d,)(?!0)\d{1,3}(?:,\d{2,3})++(?<=,\d{3})(?!,?\d)(?:\.\d+)?)    # 1,234.5  12,34,567
      | (?P<dots>(?!0)\d{1,3}(?:(?:\.\d{3})++,\d+|(?:\.\d{3}){2,}+)(?![.,]?\d))       # 1.234,5  1.234.567
      | (?P<spaces>(?!0)\d{1,3}(?:[ ']\d{3})++(?!\d)(?:[.,]\d+)?)          # 12 345,6  12'345
      | (?P<comma>(?<!\d,)\d+,\d+(?![.,]?\d))                              # 1,5
      | (?P<plain>\d+(?:\.\d+)?|\.\d+)
      )
      (?: /(?P<under>\d+(?:\.\d+)?)                                        # 3/4
      | [eE](?P<e>[+-]?\d{1,3}) | [ ]?[×xX*·][ ]?10[ ]?(?:\^|\*\*)[ ]?(?P<ten>[-+]?\d{1,3})  # 2 × 10^3
      | \^(?P<power>[-+]?\d{1,3}) | [ ](?P<large>(?i:thousand|[mb]illion))\b )?
    )
    (?![\d^_]|\.\d)
    """,
    re.ASCII | re.VERBOSE,
)


def plain_text(text: str) -> str:
    """The end of ``text`` in ASCII digits, signs, spaces and letters; numerals of LaTeX in plain writing."""
    text = text[-TAIL:]
    if not text.isascii():
        text = _RAISED.sub(lambda found: "^" + "".join(_SUPERSCRIPTS[mark] for mark in found.group()), text)
        text = _INVISIBLE.sub("", _AFTER_DIGIT.sub(" ", text))
        text = unicodedata.normalize("NFKC", text)[-TAIL:]
        text = "".join(str(int(mark)) if mark.isdecimal() else mark for mark in text).translate(_ONE_FOR_ONE)
    if any(mark in text for mark in ("\\", "^", "~", "{,}")):
        text = _FRACTION.sub(_fraction, text)
        for pattern, plain in _LATEX:
            text = pattern.sub(plain, text)
    return text


def _fraction(found: re.Match[str]) -> str:
    braced, whole, *terms = found.groups(default="")
    over, under = terms[0] or terms[1], terms[2] or terms[3]
    if under.startswith("-"):
        over, under = over[1:] if over.startswith("-") else f"-{over}", under[1:]
    whole = braced or whole
    return f"{whole} {over}/{under}" if whole else f"{over}/{under}"


def digits_of(found: re.Match[str]) -> str | None:
    """A match of NUMERAL as plain digits: ``"-1234.5"``, ``"8/3"``; None where it is not finite."""
    part = found.groupdict()
    negative = (part["sign"] == "-") != (part["inner"] == "-")
    try:
        digits = _magnitude(part)
    except (OverflowError, ZeroDivisionError, ValueError):
        return None
    return None if number_value(digits) is None else f"-{digits}" if negative else digits


def _magnitude(part: dict[str, str | None]) -> str:
    if part["whole"] and part["part"]:
        over, under = map(int, part["part"].split("/"))
        return f"{int(part['whole']) * under + over}/{under}"
    digits = part["plain"] or ""
    if part["commas"]:
        digits = part["commas"].replace(",", "")
    elif part["dots"]:
        digits = part["dots"].replace(".", "").replace(",", ".")
    elif found := part["spaces"] or part["comma"]:
        digits = re.sub("[ ']", "", found).replace(",", ".")
    if part["under"]:
        return f"{digits}/{part['under']}"
    if exponent := part["e"] or part["ten"]:
        return f"{digits}e{int(exponent)}"
    if large := part["large"]:
        return f"{digits}e{_LARGE[large.lower()]}"
    return f"{float(digits) ** int(part['power']):.15g}" if part["power"] else digits


_GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{2,3})*,\d{3}(\.\d*)?")


def number_value(text: str) -> float | None:
    """The value of ``"12"``, ``"-1,000.5"`` or ``"3/4"``; None where it is no finite number.

    Commas count between thousands alone: ``"1,23"`` and ``"1,2,3"`` are no numbers.
    """
    if "," in text and not _GROUPED.fullmatch(text.strip()):
        return None
    over, slash, under = text.strip().replace(",", "").partition("/")
    try:
        value = float(over) / float(under) if slash else float(over)
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    # Python reads 4_9 as 49.
    return value if math.isfinite(value) and "_" not in text else None


def equal_numbers(first: str | float | None, second: str | float | None, tolerance: float = 1e-3) -> bool:
    """Whether two numbers differ by at most ``tolerance``; never true of something that is no number."""
    a, b = (number_value(value) if isinstance(value, str) else value for value in (first, second))
    return a is not None and b is not None and abs(a - b) <= tolerance
