"""Labelled text -> data for fairseq's stock sentence_prediction task.

In: a data-bin, whose tokenizer and dictionary are used, and a folder with train.tsv, valid.tsv and
perhaps test.tsv: label, tab, text. Out: a folder with input0 and label, each binarized.
"""

import argparse
from pathlib import Path
from typing import Dict, List, NamedTuple

from data_bin import SPLITS, binarize
from fairseq_electra.data.tokenizer import UNKNOWN, Tokenizer, load_tokenizer
from fairseq_electra.new_folder import new_folder
from raw_text import read_lines

MAX_TOKENS = 126  # with <s> and </s> 128
PROCESSES = 2


class Table(NamedTuple):
    """Rows of a .tsv file."""

    labels: List[str]
    texts: List[str]


def read_table(path: Path) -> Table:
    """Labels and texts; ValueError for a line that is not label, tab, text."""
    table = Table([], [])
    for number, line in enumerate(read_lines(path), start=1):
        label, tab, text = line.partition("\t")
        if not line:
            continue
        if not tab or label.split() != [label]:
            raise ValueError(
                f"{path}, line {number}: not a label without white space, a tab and a text"
            )
        table.labels.append(label)
        table.texts.append(text)
    return table


def read_tables(folder: Path) -> Dict[str, Table]:
    """The splits there are; train and valid must be, with labels that train has."""
    paths = {split: folder / f"{split}.tsv" for split in SPLITS}
    tables = {
        split: read_table(path) for split, path in paths.items() if path.exists() or split != "test"
    }
    for split, table in tables.items():
        new = set(table.labels) - set(tables["train"].labels)
        if new:
            raise ValueError(f"{paths[split]}: {paths['train']} has no label {sorted(new)[0]!r}")
    return tables


def write_labels(tables: Dict[str, Table], folder: Path) -> None:
    """A label a line for each split, and dict.txt: numbers follow the alphabet."""
    for split, table in tables.items():
        (folder / split).write_text("".join(f"{label}\n" for label in table.labels), "utf-8")
    names = sorted(set(tables["train"].labels))
    (folder / "dict.txt").write_text("".join(f"{name} 1\n" for name in names), "utf-8")


def write_texts(
    tables: Dict[str, Table], tokenizer: Tokenizer, max_tokens: int, folder: Path
) -> int:
    """The first pieces of each text, a line each, and dict.txt; number of texts cut short."""
    cut = 0
    for split, table in tables.items():
        encoded = tokenizer.encode_lines(table.texts)
        cut += sum(len(pieces) > max_tokens for pieces in encoded)
        lines = (" ".join(pieces[:max_tokens]) or UNKNOWN for pieces in encoded)
        (folder / split).write_text("".join(f"{line}\n" for line in lines), "utf-8")
    tokenizer.save(folder)
    return cut


def prepare(args: argparse.Namespace) -> str:
    """Make args.out_dir; a sentence on what is in it."""
    with new_folder(args.out_dir) as folder:
        tokenizer = load_tokenizer(args.tokenizer_dir)
        tables = read_tables(args.tsv_dir)
        parts = {name: folder.parent / f"{name}.pieces" for name in ("input0", "label")}
        for part in parts.values():
            part.mkdir()
        write_labels(tables, parts["label"])
        cut = write_texts(tables, tokenizer, args.max_tokens, parts["input0"])
        for name, part in parts.items():
            binarize(part, part / "dict.txt", folder / name, workers=PROCESSES)
    sizes = ", ".join(f"{split} {len(table.labels)}" for split, table in tables.items())
    classes = len(set(tables["train"].labels))
    return f"{args.out_dir}: {sizes} texts, {cut} cut short; --num-classes {classes}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="prepare_task.sh", description=__doc__.split("\n")[0])
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="folder to make")
    parser.add_argument("tokenizer_dir", type=Path, metavar="TOKENIZER_DIR", help="a data-bin")
    parser.add_argument(
        "tsv_dir", type=Path, metavar="TSV_DIR", help="train.tsv, valid.tsv[, test.tsv]"
    )
    parser.add_argument(
        "--max-tokens",
        type=int,
        default=MAX_TOKENS,
        metavar="N",
        help=f"pieces of a text that are kept, <s> and </s> not counted (default {MAX_TOKENS})",
    )
    args = parser.parse_args()
    try:
        print(prepare(args))
    except (ValueError, OSError) as error:
        raise SystemExit(f"prepare_task.sh: {error}") from None


if __name__ == "__main__":
    main()
