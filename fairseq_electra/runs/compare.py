"""Compares fairseq runs by their logs: one table and one plot of the curves.

In: logs of ELECTRA pre-training, fairseq's masked_lm pre-training, sentence_prediction and
electra_tagging fine-tuning. Out: a markdown table on stdout; table.md, table.json and, if
matplotlib is installed, curves.png in --out.
"""

import argparse
from pathlib import Path
from typing import List

AXES = ("flops", "hours", "updates")  # of the plot: measure_runs.Pretraining has `..._at` for each
RUN_HELP = """RUN is [NAME=]PATH[+PATH...]

PATH is a log file, or a save-dir with one *.jsonl or *.log file in it, as fairseq-train writes
it with --log-format json --log-file SAVE_DIR/train.log (a kept stdout in fairseq's simple or
json format is understood too). The paths that + joins make one model of the table: at most one
pre-training run, and fine-tuning runs of any tasks, several of a task being its seeds. What each
log is, it says itself. A task is named after the folder of its data, or by --task:

  compare_runs.py runs/electra runs/roberta --out runs
  compare_runs.py ELECTRA=pre/electra+ft/electra-1+ft/electra-2 untrained=ft/untrained --out . \\
      --task chunk-bin="chunks, F1"

The table has the last validation of pre-training and the best validation of fine-tuning: the
median of the runs, then the lowest and the highest. FLOPs are those of flops.py for the sizes in
the log: forward x 3, no word look-up, no padding, of --mlm-updates those of the first stage. Hours
count set-up and validation.
"""


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{RUN_HELP}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="see above")
    parser.add_argument("--out", required=True, type=Path, help="folder for table and plot")
    parser.add_argument("--x", choices=AXES, default="flops", help="default: %(default)s")
    parser.add_argument(
        "--flops-per-token",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="training FLOPs a token of the run NAME, for logs that do not give its sizes",
    )
    parser.add_argument(
        "--features", type=Path, metavar="FILE", help="what measure_features.py wrote"
    )
    parser.add_argument(
        "--task",
        action="append",
        default=[],
        metavar="NAME=TITLE",
        help="what the fine-tuning task NAME is called, its data being in a folder of that name",
    )
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    from fairseq_electra.runs.compare_runs import compare

    compare(args)
