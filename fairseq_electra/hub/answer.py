"""Answers the questions of a SQuAD file with a model fine-tuned by scripts/finetune_squad.sh.

In: its checkpoint and the JSON. Out: {id: text}, for version 2.0 also {id: probability of no
answer}, as the official scripts take them; and their metrics, if the file has answers.
"""

import argparse
import sys
from pathlib import Path
from typing import List

MAX_ANSWER_LENGTH = 30  # pieces (authors' code)
N_BEST = 20


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("input", type=Path, metavar="DATA.json", help="SQuAD 1.1 or 2.0")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="for {id: text}")
    parser.add_argument(
        "--na-probs", type=Path, metavar="FILE", help="for {id: probability of no answer}; 2.0"
    )
    parser.add_argument(
        "--na-threshold",
        type=float,
        metavar="P",
        help='write "" where no answer is more probable; 2.0 (default: never)',
    )
    parser.add_argument(
        "--nbest", type=Path, metavar="FILE", help=f"for the {N_BEST} best texts of each question"
    )
    parser.add_argument(
        "--max-answer-length",
        type=int,
        default=MAX_ANSWER_LENGTH,
        metavar="N",
        help="most pieces in an answer (default: %(default)s)",
    )
    parser.add_argument("--data", type=Path, metavar="SQUAD_BIN", help="if it has moved")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from fairseq_electra.hub.predict_answers import answer_file

    sys.stdout.reconfigure(errors="replace")  # an id may hold what the terminal cannot show
    answer_file(args, N_BEST)
