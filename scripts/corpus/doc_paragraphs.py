"""A docstring -> paragraphs of plain English, one string each.

Wrapped lines are joined; code, doctests, tables, headings and reStructuredText markup go.
"""

import inspect
import re
from typing import Iterator, List

STOP_WORDS = (
    "a an and are as at be by can for from has have if in into is it its may not of on or "
    "should than that the then these this to used was when which will with you"
)
STOP_WORD_SET = frozenset(STOP_WORDS.split())
FEWEST_WORDS, LEAST_STOP_WORDS, LEAST_LETTERS = 5, 0.15, 0.8
UNDERLINE = re.compile(r"([-=~^*#+`'\"])\1{2,}\s*$")
STARTS_ITEM = re.compile(
    r"(?:[-*+•]|\d{1,2}[.)]|\(?[a-z]\)|:[\w ]+:|@\w+|\.\.|>>>)(?:\s|$)"
    r"|\*{0,2}\w+(?: ?\([^()]*\))? ?:\s"  # a parameter
)
DOCTEST = (">>>", "...", "$ ", "In [", "Out[")
CODE = re.compile(
    r"\bdef \w+\(|\bclass \w+[:(]|\w = \w+[(\[.]|^import |^from \S+ import |\w\(\w*\): \w+[(.]"
)
BULLET = re.compile(r"^(?:[-*+•@]|\.\. *(?:\[[^\]]*\]|[\w:-]+::)?)\s+")
MARKUP = (
    (re.compile(r"(?::[\w:+-]+:)?`([^`<]+?)\s*<[^`>]*>`_{0,2}"), r"\1"),  # `text <link>`_
    (re.compile(r"(?::[\w:+-]+:)?`~(?:[^`]*\.)?([^`]*)`"), r"\1"),  # :func:`~package.name`
    (re.compile(r":[\w:+-]+:`"), "`"),  # :func:`name`
    (re.compile(r"\s*\[[\w*#]+\]_"), ""),  # footnote
    (re.compile(r"%\([\w:]+\)s|(?<!\w)\{\w+\}"), ""),  # template field
    (re.compile(r"\\\w+\{?|(?<=\w)\\(?=\s)"), " "),  # a TeX command
    (re.compile(r"``|`_{0,2}|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)"), ""),
)
MARKED = re.compile(r"[`*\\%{]|\]_")


def extract_paragraphs(docstring: str) -> List[str]:
    """English paragraphs of a docstring, each on one line, in their order."""
    joined = map(join_lines, split_blocks(inspect.cleandoc(docstring)))
    return [text for text in map(strip_markup, joined) if is_english(text)]


def split_blocks(text: str) -> Iterator[List[str]]:
    """Blocks of lines that belong to one paragraph: up to a blank line, item or dedent."""
    block: List[str] = []
    for line in text.split("\n"):
        bare = line.strip()
        if UNDERLINE.match(bare):
            block = []  # the heading above it goes as well
            continue
        starts_new = not bare or STARTS_ITEM.match(bare)
        if block and (starts_new or indent_of(line) < indent_of(block[-1])):
            yield block
            block = []
        if bare:
            block.append(line)
    if block:
        yield block


def indent_of(line: str) -> int:
    """Number of spaces a line starts with."""
    return len(line) - len(line.lstrip(" "))


def join_lines(block: List[str]) -> str:
    """One line; "" for a doctest. A field and its indented description become two sentences."""
    lines = [line.strip() for line in block]
    if lines[0].startswith(DOCTEST):
        return ""
    is_field = len(block) > 1 and indent_of(block[1]) > indent_of(block[0]) and " : " in lines[0]
    if is_field and lines[0][-1] not in ".,:;":
        lines[0] += "."
    return " ".join(lines)


def strip_markup(text: str) -> str:
    """Text without reStructuredText markup, list bullets and template fields."""
    text = BULLET.sub("", text)
    if MARKED.search(text):
        for pattern, replacement in MARKUP:
            text = pattern.sub(replacement, text)
    return " ".join(text.split()).removesuffix("::")


def is_english(text: str) -> bool:
    """Whether text reads as prose: enough words, stop words and letters, and no code."""
    words = re.findall(r"[a-z]+", text.lower())
    letters = len("".join(words)) + text.count(" ")
    if len(words) < FEWEST_WORDS or letters < LEAST_LETTERS * len(text):
        return False
    stops = len([word for word in words if word in STOP_WORD_SET])
    return stops >= LEAST_STOP_WORDS * len(words) and not CODE.search(text)
