"""CoNLL files -> a folder for --task electra_tagging.

In: a data-bin, whose tokenizer and dictionary are used, and a folder with train.txt, perhaps
valid.txt (or dev.txt) and test.txt: a word a line, blank lines between sentences. Without held-out
data every 10th sentence of train.txt becomes it. Out: words and tags of each split, checked.
"""

import argparse
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from fairseq_electra.data.conll import Sentence, format_conll, read_conll
from fairseq_electra.data.tokenizer import load_tokenizer
from fairseq_electra.new_folder import new_folder

FILES = {"train": ["train.txt"], "valid": ["valid.txt", "dev.txt"], "test": ["test.txt"]}
HELD_OUT = 10  # every 10th sentence


class Split(NamedTuple):
    """Sentences, and where they are from."""

    sentences: List[Sentence]
    origin: str


def read_splits(folder: Path, word_column: int, tag_column: int) -> Dict[str, Split]:
    """The splits there are, in the order train, valid, test.

    Raises:
        ValueError: for a line that does not fit, and if there is no train.txt.
    """
    splits = {}
    for split, names in FILES.items():
        paths = [folder / name for name in names if (folder / name).exists() or split == "train"]
        if len(paths) > 1:
            raise ValueError(f"{folder} has {' and '.join(names)}: keep one of them")
        if paths:
            sentences = read_conll(paths[0], word_column, tag_column)
            splits[split] = Split(sentences, paths[0].name)
    if "valid" not in splits:
        splits["train"], valid = hold_out(splits["train"])
        splits = {"train": splits.pop("train"), "valid": valid, **splits}
    return splits


def hold_out(train: Split) -> Tuple[Split, Split]:
    """Training and held-out sentences of a split; ValueError if there are too few."""
    if len(train.sentences) < HELD_OUT:
        raise ValueError(
            f"{train.origin} has {len(train.sentences)} sentences, too few to hold out every "
            f"{HELD_OUT}th: give a valid.txt"
        )
    held_out = train.sentences[HELD_OUT - 1 :: HELD_OUT]
    rest = [each for i, each in enumerate(train.sentences, start=1) if i % HELD_OUT]
    return Split(rest, train.origin), Split(held_out, f"every {HELD_OUT}th of {train.origin}")


def list_tags(split: Split) -> List[str]:
    """The tags that occur, in alphabetical order."""
    return sorted({tag for sentence in split.sentences for tag in sentence.tags})


def write_splits(splits: Dict[str, Split], labels: List[str], folder: Path) -> None:
    """A file of words and tags for each split, and label/dict.txt."""
    for name, split in splits.items():
        (folder / f"{name}.conll").write_text(format_conll(split.sentences), "utf-8")
    (folder / "label").mkdir()
    (folder / "label" / "dict.txt").write_text("".join(f"{tag} 1\n" for tag in labels), "utf-8")


def describe_tags(splits: Dict[str, Split], labels: List[str]) -> str:
    """How many there are, and which of them cannot be learnt."""
    new = sorted(set(labels) - set(list_tags(splits["train"])))
    return f"{len(labels)} tags" + (f", {', '.join(new)} not in train" if new else "")


def run(args: argparse.Namespace) -> None:
    """Make args.out_dir; say what is in it."""
    with new_folder(args.out_dir) as folder:
        tokenizer = load_tokenizer(args.tokenizer_dir)
        splits = read_splits(args.conll_dir, args.word_column, args.tag_column)
        # of all splits, as in the authors' code: held-out data may have a tag that train has not
        labels = sorted({tag for split in splits.values() for tag in list_tags(split)})
        tokenizer.save(folder)
        write_splits(splits, labels, folder)
    sizes = ", ".join(
        f"{name} {len(split.sentences)} ({split.origin})" for name, split in splits.items()
    )
    print(f"{args.out_dir}: {sizes} sentences; {describe_tags(splits, labels)}")


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out_dir", type=Path, metavar="TAG_BIN", help="folder to make")
    parser.add_argument("tokenizer_dir", type=Path, metavar="DATA_BIN", help="with the tokenizer")
    parser.add_argument("conll_dir", type=Path, metavar="CONLL_DIR", help="train.txt and others")
    for name, default, place in (("word", 0, "the first"), ("tag", -1, "the last")):
        parser.add_argument(
            f"--{name}-column",
            type=int,
            default=default,
            metavar="N",
            help=f"column of the {name}, from 0, or from the end as -1 (default: {place})",
        )
    return parser.parse_args(argv)
