"""Labelled text -> data for fairseq's stock sentence_prediction task.

In: a data-bin, whose tokenizer and dictionary are used, and a folder with train.tsv, valid.tsv and
perhaps test.tsv: label, tab, text (--pairs: tab, second text). Out: a folder with input0, perhaps
input1, and label, each binarized, and the tokenizer.
"""

import argparse
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from fairseq_electra.data.tokenizer import UNKNOWN, Tokenizer, load_tokenizer
from fairseq_electra.new_folder import new_folder
from fairseq_electra.text.data_bin import SPLITS, binarize
from fairseq_electra.text.raw_text import read_rows

MAX_TOKENS = 126  # with <s> and </s> 128; a pair has one less, for its second </s>
PROCESSES = 2


class Table(NamedTuple):
    """Rows of a file, each with its line; `labels` is empty where the file has none."""

    path: Path
    lines: List[int]
    labels: List[str]
    texts: List[Tuple[str, ...]]  # one sentence or two


class Counts(NamedTuple):
    """What preparing changed, by number of texts (or pairs)."""

    cut: int
    empty: int

    def __str__(self) -> str:
        return f"{self.cut} cut short, {self.empty} with an empty text (read as <unk>)"


def read_table(path: Path, sentences: int) -> Table:
    """Labels and texts; ValueError for a line that is not label, tab, text (and tab, text)."""
    table = Table(path, [], [], [])
    for number, fields in enumerate(read_rows(path), start=1):
        if not any(map(str.strip, fields)):
            continue
        label, *texts = map(str.strip, fields)
        if sentences == 1 and texts:
            texts = ["\t".join(texts)]
        while len(texts) > sentences and not texts[-1]:  # empty columns at the end
            texts.pop()
        if label.split() != [label] or len(texts) != sentences:
            wanted = "a tab and a text" if sentences == 1 else "and two texts, with tabs between"
            raise ValueError(f"{path}, line {number}: not a label without white space, {wanted}")
        table.lines.append(number)
        table.labels.append(label)
        table.texts.append(tuple(texts))
    if not table.lines:
        raise ValueError(f"{path} holds no text: it is empty or has only blank lines")
    return table


def read_tables(folder: Path, sentences: int, regression: bool) -> Dict[str, Table]:
    """The splits there are; train and valid must be, with labels that train has, or numbers."""
    paths = {split: folder / f"{split}.tsv" for split in SPLITS}
    tables = {
        split: read_table(path, sentences)
        for split, path in paths.items()
        if path.exists() or split != "test"
    }
    for table in tables.values():
        if regression:
            check_numbers(table)
        else:
            check_labels(table, set(tables["train"].labels), f"{paths['train']} has no label")
    return tables


def check_labels(table: Table, names: Sequence[str], complaint: str) -> None:
    """ValueError with file and line for a label that is not one of names."""
    for line, label in zip(table.lines, table.labels, strict=True):
        if label not in names:
            raise ValueError(f"{table.path}, line {line}: {complaint} {label!r}")


def check_numbers(table: Table, low: float = -math.inf, high: float = math.inf) -> None:
    """ValueError with file and line for a label that is no number from low to high."""
    limits = "" if math.isinf(high) else f" from {low:g} to {high:g}"
    for line, label in zip(table.lines, table.labels, strict=True):
        try:
            number = float(label)
        except ValueError:
            number = math.nan
        if not low <= number <= high or math.isinf(number):
            raise ValueError(f"{table.path}, line {line}: {label!r} is not a number{limits}")


def write_classes(tables: Dict[str, Table], names: Sequence[str], work: Path, out: Path) -> None:
    """Binarized labels in out, with dict.txt: a class has its place in names as its number."""
    work.mkdir()
    for split, table in tables.items():
        if table.labels:
            (work / split).write_text("".join(f"{label}\n" for label in table.labels), "utf-8")
    (work / "dict.txt").write_text("".join(f"{name} 1\n" for name in names), "utf-8")
    binarize(work, work / "dict.txt", out, workers=PROCESSES)


def write_numbers(tables: Dict[str, Table], out: Path) -> None:
    """Labels of a regression, a number a line, as fairseq reads them."""
    out.mkdir()
    for split, table in tables.items():
        if table.labels:
            lines = "".join(f"{label}\n" for label in table.labels)
            (out / f"{split}.label").write_text(lines, "utf-8")


def cut_pieces(pieces: Sequence[List[str]], max_tokens: int) -> List[List[str]]:
    """One sentence or two, cut at the end; of two the longer one, then the second, loses a piece
    at a time, as the authors do (finetune/classification, _truncate_seq_pair)."""
    if len(pieces) == 1:
        return [pieces[0][:max_tokens]]
    first, second = map(len, pieces)
    while first + second > max_tokens - 1:
        if first > second:
            first -= 1
        else:
            second -= 1
    return [pieces[0][:first], pieces[1][:second]]


def write_texts(
    tables: Dict[str, Table], tokenizer: Tokenizer, max_tokens: int, parts: List[Path]
) -> Counts:
    """The pieces of each text, a line each, in a folder for each sentence; makes the folders."""
    for part in parts:
        part.mkdir()
        tokenizer.save(part)
    cut = empty = 0
    for split, table in tables.items():
        columns = [tokenizer.encode_lines(column) for column in zip(*table.texts, strict=True)]
        rows = list(zip(*columns, strict=True))
        shortened = [cut_pieces(row, max_tokens) for row in rows]
        cut += sum(list(row) != short for row, short in zip(rows, shortened, strict=True))
        empty += sum(not all(row) for row in rows)
        for part, column in zip(parts, zip(*shortened, strict=True), strict=True):
            lines = "".join(f"{' '.join(pieces) or UNKNOWN}\n" for pieces in column)
            (part / split).write_text(lines, "utf-8")
    return Counts(cut, empty)


def write_task(
    tables: Dict[str, Table],
    names: Optional[Sequence[str]],
    tokenizer: Tokenizer,
    max_tokens: int,
    out: Path,
) -> Counts:
    """Write input0, perhaps input1, label and the tokenizer into out, an empty folder.

    Args:
        names: the classes; None for a regression.
    """
    work = out.parent  # of `new_folder`, for what is not kept
    tokenizer.save(out)
    if names is None:
        write_numbers(tables, out / "label")
    else:
        write_classes(tables, names, work / "label.pieces", out / "label")
    inputs = [f"input{i}" for i in range(len(tables["train"].texts[0]))]
    parts = [work / f"{name}.pieces" for name in inputs]
    counts = write_texts(tables, tokenizer, max_tokens, parts)
    for name, part in zip(inputs, parts, strict=True):
        binarize(part, part / "dict.txt", out / name, workers=PROCESSES)
    return counts


def run(args: argparse.Namespace) -> None:
    """Make args.out_dir; say what is in it."""
    with new_folder(args.out_dir) as folder:
        tokenizer = load_tokenizer(args.tokenizer_dir)
        tables = read_tables(args.tsv_dir, 2 if args.pairs else 1, args.regression)
        names = None if args.regression else sorted(set(tables["train"].labels))
        counts = write_task(tables, names, tokenizer, args.max_tokens, folder)
    sizes = ", ".join(f"{split} {len(table.labels)}" for split, table in tables.items())
    head = "--regression-target --num-classes 1" if names is None else f"--num-classes {len(names)}"
    print(f"{args.out_dir}: {sizes} texts, {counts}; {head}")


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to make")
    parser.add_argument("tokenizer_dir", type=Path, metavar="TOKENIZER_DIR", help="a data-bin")
    parser.add_argument(
        "tsv_dir", type=Path, metavar="TSV_DIR", help="train.tsv, valid.tsv[, test.tsv]"
    )
    parser.add_argument("--pairs", action="store_true", help="label, tab, text, tab, second text")
    parser.add_argument("--regression", action="store_true", help="labels are numbers")
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=MAX_TOKENS,
        metavar="N",
        help="pieces of a text that are kept, <s> and </s> not counted; of a pair one less in all "
        f"(default {MAX_TOKENS})",
    )
    return parser.parse_args(argv)
