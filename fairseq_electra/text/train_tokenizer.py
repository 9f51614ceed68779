"""Train a SentencePiece tokenizer on raw text, whatever its size, from a bounded sample.

In: raw text files and the number of entries wanted in fairseq's dictionary. Out: a Tokenizer.
"""

import io
import re
import string
from pathlib import Path
from random import Random
from typing import Iterable, List

import sentencepiece

from fairseq_electra.data.tokenizer import RESERVED, SentencePieceTokenizer, unify_spaces
from fairseq_electra.text.raw_text import read_lines

LINES_PER_PIECE = 6  # sampled; twice as many take twice as long and gain half a percent
# Up to 1000 characters and no half words: SentencePiece would leave out longer lines.
SAMPLED_PART = re.compile(r"\S.{0,999}(?!\S)|\S{1000}")
CHARACTER_COVERAGE = 0.9999  # share of the text's characters that are not <unk>
OTHER_SPECIALS = len(RESERVED) - 1  # SentencePiece has <unk> only


def sample_lines(paths: Iterable[Path], count: int) -> List[str]:
    """At most count parts of the text, each as likely as the others.

    SentencePiece samples by itself too, but differently in every run.
    """
    kept: List[str] = []
    random = Random(1)
    parts = (part for path in paths for line in read_lines(path) for part in split_line(line))
    for number, part in enumerate(parts):
        if number < count:
            kept.append(part)
        elif (place := random.randrange(number + 1)) < count:
            kept[place] = part
    return kept


def split_line(line: str) -> List[str]:
    """A line in parts of at most 1000 characters, between words where it has any."""
    return SAMPLED_PART.findall(line)


def train_on_files(paths: Iterable[Path], vocab_size: int, cased: bool) -> SentencePieceTokenizer:
    """train_sentencepiece on a sample of the files whose size goes with vocab_size."""
    lines = sample_lines(paths, LINES_PER_PIECE * vocab_size)
    return train_sentencepiece(lines, vocab_size, cased)


def train_sentencepiece(lines: List[str], vocab_size: int, cased: bool) -> SentencePieceTokenizer:
    """A unigram model with which fairseq's dictionary has vocab_size entries, <mask> counted.

    Text is put into Unicode's NFKC form, and into lower case unless cased. ValueError if the text
    does not allow that size.
    """
    model = io.BytesIO()
    printable = string.ascii_letters + string.digits + string.punctuation
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=map(unify_spaces, lines),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size - OTHER_SPECIALS,
            normalization_rule_name="nmt_nfkc" if cased else "nmt_nfkc_cf",
            character_coverage=CHARACTER_COVERAGE,
            required_chars=printable if cased else printable.lower(),
            num_threads=2,
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise ValueError(explain_failure(str(error), vocab_size)) from None
    return SentencePieceTokenizer(model.getvalue(), cased)


def explain_failure(message: str, vocab_size: int) -> str:
    """SentencePiece's complaint about the vocabulary size, in terms of --vocab-size."""
    most = re.search(r"Please set it to a value <= (\d+)", message)
    if most:
        limit = int(most[1]) + OTHER_SPECIALS
        return f"--vocab-size {vocab_size} is too large for this text: use at most {limit}"
    least = re.search(r"smaller than required_chars\D*\d+ vs (\d+)", message)
    if least:
        limit = int(least[1]) + OTHER_SPECIALS
        return f"--vocab-size {vocab_size} is too small for this text: use at least {limit}"
    return f"SentencePiece cannot be trained on this text: {message}"
