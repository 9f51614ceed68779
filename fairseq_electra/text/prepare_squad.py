"""SQuAD's JSON (1.1 or 2.0) -> a folder for --task electra_answers.

In: a data-bin, whose tokenizer and dictionary are used, and the official files. Out: copies as
train.json, valid.json and perhaps test.json, checked, beside dict.txt and the tokenizer's files.
"""

import argparse
import shutil
from pathlib import Path
from typing import Dict, List, Optional

from fairseq_electra.data.answer_windows import describe_skipped
from fairseq_electra.data.squad import read_squad
from fairseq_electra.data.tokenizer import load_tokenizer
from fairseq_electra.new_folder import new_folder
from fairseq_electra.tasks.electra_answers import ElectraAnswersTask, ElectraAnswersTaskConfig


def check_file(path: Path, task: ElectraAnswersTask, to_learn: bool) -> str:
    """Lines on a file; ValueError, naming it, if it is not SQuAD's or cannot be learnt from."""
    squad = read_squad(path)
    version = "2.0" if squad.has_impossible else "1.1"
    dataset = task.make_dataset(squad, path, to_learn)
    skipped = f"; left out {describe_skipped(dataset.skipped)}" if dataset.skipped else ""
    return f"SQuAD {version}, {dataset.describe()}{skipped}"


def prepare(args: argparse.Namespace) -> str:
    """Make args.out_dir; a line for each file."""
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
    return "\n".join([*lines, f"{args.out_dir}: ready for scripts/finetune_squad.sh"])


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(
        prog="fairseq-electra prepare-squad",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out_dir", type=Path, metavar="SQUAD_BIN", help="folder to make")
    parser.add_argument("tokenizer_dir", type=Path, metavar="DATA_BIN", help="with the tokenizer")
    parser.add_argument("train", type=Path, metavar="TRAIN.json")
    parser.add_argument("valid", type=Path, metavar="DEV.json")
    parser.add_argument("test", type=Path, metavar="TEST.json", nargs="?")
    args = parser.parse_args(argv)
    try:
        print(prepare(args))
    except (ValueError, OSError) as error:
        raise SystemExit(f"fairseq-electra prepare-squad: {error}") from None
