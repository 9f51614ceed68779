"""A labelled task out of docstrings: which library does this text come from?

In: the paragraphs of one docstring. Out: chunks of 30 to 100 words in which the names of
libraries and their usual short names are masked, and a cap on the examples of each label.
"""

import hashlib
import re
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

LABELS = ("python", "torch", "numpy", "scipy", "sklearn", "sympy", "networkx", "matplotlib")
SHORTEST, LONGEST = 30, 100  # words
MASK = "library"
# A dotted name goes as a whole: what follows the library's name gives it away too.
NAMES = re.compile(
    r"(?i:(?<![\w.])[\w.]*(?:python|torch|numpy|scipy|sklearn|scikit|sympy|networkx|matplotlib"
    r"|pyplot|pandas|mpmath|caffe2?|onnx)[\w.]*(?:-learn|-image)?|\bpeps?\b(?:[ -]?\d+)?)"
    r"|\b(?:np|plt|mpl|nx|pd|sp|mp|aten)\.[\w.]+|\b(?:np|plt|mpl|nx|aten|ATen)\b"
)

Example = Tuple[str, str]  # label, text


def mask_names(text: str) -> str:
    """Text with every library's name replaced by one neutral word."""
    return NAMES.sub(MASK, text)


def cut_chunks(paragraphs: Sequence[str]) -> Iterator[str]:
    """Consecutive pieces of at most 100 words; one below 30 words is dropped."""
    chunk: List[str] = []
    for paragraph in paragraphs:
        words = paragraph.split()
        if len(chunk) >= SHORTEST and len(chunk) + len(words) > LONGEST:
            yield " ".join(chunk)
            chunk = []
        chunk += words
        while len(chunk) > LONGEST:
            yield " ".join(chunk[:LONGEST])
            chunk = chunk[LONGEST:]
    if len(chunk) >= SHORTEST:
        yield " ".join(chunk)


def choose_examples(examples: Iterable[Example], limit: int) -> List[Example]:
    """At most limit examples of each label, names masked; the same ones in every run."""
    kept: Dict[str, List[Example]] = {}
    for label, text in sorted(examples, key=hash_example):
        of_label = kept.setdefault(label, [])
        if len(of_label) < limit:
            of_label.append((label, mask_names(text)))
    return sorted((example for group in kept.values() for example in group), key=hash_example)


def hash_example(example: Example) -> bytes:
    """A number that puts examples in an order that is mixed but fixed."""
    return hashlib.md5("\t".join(example).encode()).digest()
