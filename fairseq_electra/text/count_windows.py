"""Prints how many windows --task electra_answers makes of SQUAD_BIN/train.json, for the schedule.

In: the folder and options of the task, such as --tokens-per-sample; other options are passed over.
"""

import argparse
import logging
from dataclasses import fields
from typing import List, Optional

import fairseq_electra
from fairseq_electra.tasks.electra_answers import ElectraAnswersTask, ElectraAnswersTaskConfig

SIZES = ("tokens_per_sample", "doc_stride", "max_query_length")


def count_windows(argv: Optional[List[str]] = None) -> int:
    """Windows of the training set; ValueError if it cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("data", metavar="SQUAD_BIN")
    for field in fields(ElectraAnswersTaskConfig):
        if field.name in SIZES:
            option = "--" + field.name.replace("_", "-")
            parser.add_argument(option, type=int, default=field.default)
    args, _ = parser.parse_known_args(argv)
    task = ElectraAnswersTask.setup_task(ElectraAnswersTaskConfig(**vars(args)))
    task.load_dataset("train")
    return len(task.dataset("train"))


if __name__ == "__main__":
    fairseq_electra.register()
    logging.disable(logging.ERROR)  # training logs it again
    try:
        print(count_windows())
    except ValueError as error:
        raise SystemExit(f"finetune_squad.sh: {error}") from None
