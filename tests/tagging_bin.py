"""A folder for --task electra_tagging, with sentences whose tags follow from their words."""

import random
from pathlib import Path
from typing import List

from fairseq.data import Dictionary

from fairseq_electra.data.conll import Sentence, format_conll
from fairseq_electra.data.tokenizer import BERT_SPECIALS, WordPieceTokenizer

# w0 to w9 are one piece, w10 to w19 are two, "w1" and a digit
VOCABULARY = [*BERT_SPECIALS, *(f"w{n}" for n in range(10)), *(f"##{n}" for n in range(10))]
TAGS = ["B-A", "B-B", "I-A", "I-B", "O"]


def tag_of(word: str) -> str:
    """By the first piece, so that it can be learnt in seconds."""
    return TAGS[int(word[1]) % len(TAGS)]


def make_sentences(number: int, seed: int) -> List[Sentence]:
    """Sentences of 1 to 8 words, some of them with entities."""
    rng = random.Random(seed)
    lines = [[f"w{rng.randrange(20)}" for _ in range(rng.randint(1, 8))] for _ in range(number)]
    return [
        Sentence(words, [tag_of(word) for word in words], list(range(1, len(words) + 1)))
        for words in lines
    ]


def make_tokenizer() -> WordPieceTokenizer:
    return WordPieceTokenizer("\n".join(VOCABULARY).encode(), cased=False)


def make_dictionary(tokenizer) -> Dictionary:
    """What tasks read from dict.txt."""
    dictionary = Dictionary()
    for piece in [*tokenizer.pieces, "<mask>"]:
        dictionary.add_symbol(piece)
    return dictionary


def make_tag_bin(folder: Path, train: int = 160, valid: int = 30) -> Path:
    """What scripts/prepare_tagging.sh makes."""
    (folder / "label").mkdir(parents=True)
    make_tokenizer().save(folder)
    (folder / "label" / "dict.txt").write_text("".join(f"{tag} 1\n" for tag in TAGS))
    for seed, (split, number) in enumerate((("train", train), ("valid", valid))):
        (folder / f"{split}.conll").write_text(format_conll(make_sentences(number, seed)))
    return folder
