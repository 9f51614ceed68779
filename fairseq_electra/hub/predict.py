"""Predict with a fine-tuned checkpoint: a class or a number for each text, in the file's order.

In: a checkpoint of fairseq's sentence_prediction (ELECTRA or RoBERTa), a folder made by
prepare_task.sh, a split. Out: lines on stdout.
"""

import argparse
from pathlib import Path
from typing import List


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="of scripts/finetune.sh")
    parser.add_argument("task_bin", type=Path, help="of fairseq-electra prepare-task")
    parser.add_argument("split", nargs="?", default="valid", help="default: %(default)s")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from fairseq_electra.hub.predict_sentences import load_predictor, predict

    for line in predict(load_predictor(args.checkpoint, args.task_bin), args.split):
        print(line)
