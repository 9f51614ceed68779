"""SQuAD's JSON (1.1 or 2.0) -> a folder for --task electra_answers.

In: a data-bin, whose tokenizer and dictionary are used, and the official files. Out: copies as
train.json, valid.json and perhaps test.json, checked, beside dict.txt and the tokenizer's files.
"""

import argparse
import shutil
from pathlib import Path
from typing import Dict, List

from fairseq_electra.data.squad import read_squad
from fairseq_electra.data.tokenizer import load_tokenizer
from fairseq_electra.new_folder import new_folder


def check_file(path: Path, task, to_learn: bool) -> str:
    """Lines on a file; ValueError, naming it, if it is not SQuAD's or cannot be learnt from."""
    from fairseq_electra.data.answer_windows import describe_skipped  # not for --help

    squad = read_squad(path)
    version = "2.0" if squad.has_impossible else "1.1"
    dataset = task.make_dataset(squad, path, to_learn)
    skipped = f"; left out {describe_skipped(dataset.skipped)}" if dataset.skipped else ""
    return f"SQuAD {version}, {dataset.describe()}{skipped}"


def run(args: argparse.Namespace) -> None:
    """Make args.out_dir; print a line for each file."""
    from fairseq_electra.tasks.electra_answers import ElectraAnswersTask, ElectraAnswersTaskConfig

    sources: Dict[str, Path] = {"train": args.train, "valid": args.valid}
    if args.test:
        sources["test"] = args.test
    with new_folder(args.out_dir) as folder:
        load_tokenizer(args.tokenizer_dir).save(folder)
        task = ElectraAnswersTask.setup_task(ElectraAnswersTaskConfig(data=str(folder)))
        lines = []
        for split, path in sources.items():
            lines.append(f"{split:6}{path}: {check_file(path, task, split != 'test')}")
            shutil.copyfile(path, folder / f"{split}.json")
    print(*lines, f"{args.out_dir}: ready for scripts/finetune_squad.sh", sep="\n")


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out_dir", type=Path, metavar="SQUAD_BIN", help="folder to make")
    parser.add_argument("tokenizer_dir", type=Path, metavar="DATA_BIN", help="with the tokenizer")
    parser.add_argument("train", type=Path, metavar="TRAIN.json")
    parser.add_argument("valid", type=Path, metavar="DEV.json")
    parser.add_argument("test", type=Path, metavar="TEST.json", nargs="?")
    return parser.parse_args(argv)
