"""Tags the words of a CoNLL file with a model fine-tuned by scripts/finetune_tagging.sh.

In: its checkpoint and a file with a word a line. Out: the same lines with the predicted tag as an
additional last column, which conlleval reads; and, if the file has tags, seqeval's report.
"""

import argparse
from pathlib import Path
from typing import List, Optional

NONE = "none"


def parse_column(text: str) -> Optional[int]:
    """A number of a column, or None."""
    if text == NONE:
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is neither a number nor {NONE}") from None


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("input", type=Path, metavar="INPUT", help="a word a line, UTF-8")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: stdout")
    parser.add_argument("--data", type=Path, metavar="TAG_BIN", help="if it has moved")
    parser.add_argument(
        "--word-column", type=int, default=0, metavar="N", help="from 0 (default: the first)"
    )
    parser.add_argument(
        "--tag-column",
        type=parse_column,
        default=-1,
        metavar="N",
        help=f"of the right tags, to compare with (default: the last), or {NONE}",
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from fairseq_electra.hub.predict_tags import tag_file

    tag_file(args)
