"""Raw text -> a fairseq data-bin: tokenizer, pieces, fairseq-preprocess.

In: UTF-8 text, plain, .gz or .xz: a paragraph a line, blank lines between documents. Out: a folder
with train, valid and perhaps test for fairseq, dict.txt, and the tokenizer's files.
"""

import argparse
import os
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Iterator, List, Tuple

from fairseq_electra.data.tokenizer import Tokenizer, load_tokenizer, load_wordpiece
from fairseq_electra.new_folder import new_folder
from fairseq_electra.text.data_bin import SPLITS, binarize
from fairseq_electra.text.raw_text import read_lines
from fairseq_electra.text.tokenize_text import Counts, Line, split_documents, write_pieces
from fairseq_electra.text.train_tokenizer import train_on_files

HOLD_OUT = 100
VOCAB_SIZE = 8000


def parse_args(argv: List[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="data-bin to make")
    parser.add_argument(
        "raw_files",
        type=Path,
        metavar="RAW_FILE",
        nargs="+",
        help="text, plain, .gz or .xz: a paragraph a line, blank lines between documents",
    )
    for split, text in (
        ("valid", f"validation text, repeatable; else every {HOLD_OUT}th document is held out"),
        ("test", "test text, repeatable"),
    ):
        parser.add_argument(
            f"--{split}",
            type=Path,
            metavar="FILE",
            action="append",
            default=[],
            help=text,
        )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--vocab-size",
        type=positive,
        default=VOCAB_SIZE,
        metavar="N",
        help=f"train SentencePiece; fairseq's dictionary gets N entries (default {VOCAB_SIZE})",
    )
    source.add_argument(
        "--vocab", type=Path, metavar="FILE", help="use a BERT WordPiece vocabulary"
    )
    source.add_argument(
        "--tokenizer", type=Path, metavar="DIR", help="use the tokenizer of another data-bin"
    )
    parser.add_argument(
        "--cased", action="store_true", help="keep upper case; not with --tokenizer"
    )
    cpus = len(os.sched_getaffinity(0))
    parser.add_argument(
        "--workers", type=positive, default=cpus, metavar="N", help=f"processes (here {cpus})"
    )
    args = parser.parse_intermixed_args(argv)  # options may stand between the files
    if args.cased and args.tokenizer:
        parser.error("--cased: the tokenizer of --tokenizer decides that")
    for path in {*args.valid, *args.test}.intersection(args.raw_files):
        parser.error(f"{path} is training text as well: name other text to measure with")
    return args


def positive(text: str) -> int:
    """A whole number above 0."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not above 0")
    return number


def make_tokenizer(args: argparse.Namespace) -> Tokenizer:
    """The tokenizer that the options ask for."""
    if args.tokenizer:
        return load_tokenizer(args.tokenizer)
    if args.vocab:
        return load_wordpiece(args.vocab, args.cased)
    print(f"training SentencePiece, {args.vocab_size} entries ...", flush=True)
    return train_on_files(args.raw_files, args.vocab_size, args.cased)


def list_lines(args: argparse.Namespace) -> Iterator[Line]:
    """All lines of all files with their split."""
    yield from split_documents(args.raw_files, (lambda _: "train") if args.valid else hold_out)
    yield from split_documents(args.valid, lambda _: "valid")
    yield from split_documents(args.test, lambda _: "test")


def hold_out(document: int) -> str:
    """Split of a document where no validation text is given."""
    return "valid" if document % HOLD_OUT == 0 else "train"


def prepare(args: argparse.Namespace) -> Tuple[Tokenizer, Counts]:
    """Make args.out_dir."""
    for path in [*args.raw_files, *args.valid, *args.test]:
        next(read_lines(path))  # a wrong name is found before hours of work
    with new_folder(args.out_dir) as folder:
        tokenizer = make_tokenizer(args)
        tokenizer.save(folder)
        pieces_dir = folder.parent / "pieces"
        pieces_dir.mkdir()
        counts = write_pieces(list_lines(args), folder, pieces_dir, args.workers)
        if not counts.documents["train"]:
            raise ValueError(
                f"{', '.join(map(str, args.raw_files))}: the text is one document, none can be "
                "held out: put blank lines between "
                "documents, or name validation text with --valid FILE"
            )
        check_pieces(args, counts)
        print("binarizing ...", flush=True)
        binarize(pieces_dir, folder / "dict.txt", folder, args.workers)
    return tokenizer, counts


def check_pieces(args: argparse.Namespace, counts: Counts) -> None:
    """ValueError for a split in whose text the tokenizer found nothing, as control characters."""
    files = {"train": args.raw_files, "valid": args.valid or args.raw_files, "test": args.test}
    for split, documents in counts.documents.items():
        if documents and not counts.pieces[split]:
            raise ValueError(
                f"{', '.join(map(str, files[split]))}: the {split} text has no pieces: it holds "
                "only characters that the tokenizer leaves out, such as control characters"
            )


def describe(args: argparse.Namespace, tokenizer: Tokenizer, counts: Counts) -> str:
    """What was made, a line for each split."""
    lines = [f"{'':8}{'documents':>12}{'MB':>10}{'pieces':>14}{'unknown':>10}"]
    for split in SPLITS:
        if pieces := counts.pieces[split]:
            lines.append(
                f"{split:8}{counts.documents[split]:12}{counts.bytes[split] / 1e6:10.2f}"
                f"{pieces:14}{100 * counts.unknown[split] / pieces:9.3f}%"
            )
    if not args.valid:
        lines.append(f"valid is every {HOLD_OUT}th document, from the first on")
    lines.append(f"{args.out_dir}: {tokenizer.kind}, {len(tokenizer.pieces)} pieces in dict.txt")
    return "\n".join(lines)


def run(args: argparse.Namespace) -> None:
    start = time.time()
    try:
        tokenizer, counts = prepare(args)
    except BrokenProcessPool as error:  # no memory
        raise ChildProcessError(error) from None
    print(describe(args, tokenizer, counts))
    print(f"{time.time() - start:.0f} s")
