"""Pairs of texts -> data for fairseq's stock translation task: what is read, what is to be written.

In: a data-bin, whose tokenizer and dictionary are used, and a folder with train.tsv, valid.tsv and
perhaps test.tsv: source, tab, target. Out: a folder that --task translation reads, with the
tokenizer in it.
"""

import argparse
from itertools import islice
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Tuple

from fairseq_electra.data.tokenizer import UNKNOWN, Tokenizer, load_tokenizer
from fairseq_electra.new_folder import new_folder
from fairseq_electra.text.data_bin import SPLITS, binarize
from fairseq_electra.text.raw_text import read_rows

LANGUAGES = ("src", "tgt")  # names that fairseq's files have
PROCESSES = 2
CHUNK = 10_000  # pairs in memory


class Counts(NamedTuple):
    """Of one split: its pairs, and the most pieces that a source and a target have."""

    pairs: int = 0
    longest_source: int = 0
    longest_target: int = 0

    def __str__(self) -> str:
        return (
            f"{self.pairs} pairs, at most {self.longest_source} pieces of source and "
            f"{self.longest_target} of target"
        )


def read_pairs(path: Path) -> Iterator[Tuple[str, str]]:
    """Source and target of each line that is not blank; ValueError for any other than those."""
    found = False
    for number, row in enumerate(read_rows(path), start=1):
        texts = [text.strip() for text in row]
        if texts == [""]:
            continue
        if len(texts) != 2 or not all(texts):
            raise ValueError(f"{path}, line {number}: not a source, a tab and a target")
        found = True
        yield texts[0], texts[1]
    if not found:
        raise ValueError(f"{path} holds no pairs: it is empty or has only blank lines")


def write_split(path: Path, tokenizer: Tokenizer, prefix: Path) -> Counts:
    """Write the pieces of a file's texts to PREFIX.src and PREFIX.tgt, a line each."""
    counts = Counts()
    pairs = read_pairs(path)
    source_file, target_file = (Path(f"{prefix}.{language}") for language in LANGUAGES)
    with (
        source_file.open("w", encoding="utf-8") as source,
        target_file.open("w", encoding="utf-8") as target,
    ):
        while chunk := list(islice(pairs, CHUNK)):
            columns = [tokenizer.encode_lines(column) for column in zip(*chunk, strict=True)]
            for file, column in zip((source, target), columns, strict=True):
                file.writelines(f"{' '.join(pieces) or UNKNOWN}\n" for pieces in column)
            longest = [max(map(len, column)) for column in columns]
            counts = Counts(
                counts.pairs + len(chunk), *map(max, zip(counts[1:], longest, strict=True))
            )
    return counts


def prepare(args: argparse.Namespace) -> str:
    """Make args.out_dir; a sentence on what is in it."""
    with new_folder(args.out_dir) as folder:
        tokenizer = load_tokenizer(args.tokenizer_dir)
        pieces = folder.parent / "pieces"
        pieces.mkdir()
        tokenizer.save(folder)
        (folder / "dict.txt").rename(pieces / "dict.txt")
        counts = {
            split: write_split(path, tokenizer, pieces / split)
            for split in SPLITS
            if (path := args.tsv_dir / f"{split}.tsv").exists() or split != "test"
        }
        binarize(pieces, pieces / "dict.txt", folder, PROCESSES, LANGUAGES)
    return f"{args.out_dir}: " + "; ".join(f"{split} {c}" for split, c in counts.items())


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to make")
    parser.add_argument("tokenizer_dir", type=Path, metavar="TOKENIZER_DIR", help="a data-bin")
    parser.add_argument(
        "tsv_dir", type=Path, metavar="TSV_DIR", help="train.tsv, valid.tsv[, test.tsv]"
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    print(prepare(args))
