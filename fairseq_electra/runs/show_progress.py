"""Shows a run's progress: a short line for each line of metrics that fairseq-train prints.

In: fairseq's output in the simple format on stdin; the run's name and the metrics to show. Out: a
line an interval and a line a validation, as they come. What a line does not have is left out, and
what means nothing in ELECTRA's first stage.
"""

import argparse
import sys
from typing import List, Optional

from fairseq_electra.runs.read_logs import SIMPLE_LINE, Record, parse_simple_line, tells

KINDS = {"inner": "training", "train": None}  # any other split is held out; None: not shown


def describe(record: Record, name: str, wanted: List[str]) -> Optional[str]:
    """One line on a record; None for an epoch's summary, which repeats its intervals."""
    kind = KINDS.get(record.split, "held out")
    if kind is None:
        return None
    known = [metric for metric in wanted if tells(record.metrics, metric)]
    return "  ".join(
        [
            f"{name:22}{kind}",
            f"update {record.update}",
            *(f"{metric} {record.metrics[metric]:g}" for metric in known),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="shown in front of every line")
    parser.add_argument("metrics", nargs="+", metavar="METRIC", help="as fairseq names it")
    args = parser.parse_args()
    for line in sys.stdin:
        record = parse_simple_line(line) if SIMPLE_LINE.search(line) else None
        text = record and describe(record, args.name, args.metrics)
        if text:
            print(text, flush=True)


if __name__ == "__main__":
    main()
