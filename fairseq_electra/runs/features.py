"""Measures what pre-trained encoders hold: how many directions are alive, what a probe reads off.

In: pre-training checkpoints of ELECTRA, electra_mlm or fairseq's RoBERTa, as NAME=CHECKPOINT, where
NAME=untrained:CHECKPOINT is the encoder as that training began, with another seed. Out: JSON, by
name, with feature_dims (effective dimensions) and feature_mean (share of the mean) of the last
layer on held-out text, and with --probe the percent of words whose tag a linear map gives: of all
layers (probe), and of each (probe_layers, first to last). compare_runs.py --features takes it.
"""

import argparse
import json
from pathlib import Path
from typing import List

from fairseq_electra.data.conll import read_conll


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=CHECKPOINT")
    parser.add_argument("--sentences", type=int, default=1000, help="default: %(default)s")
    parser.add_argument(
        "--probe",
        type=Path,
        nargs=2,
        metavar=("TRAIN", "TEST"),
        help="CoNLL files, the tag in the last column; at most --sentences of each",
    )
    parser.add_argument("--out", type=Path, help="file to write; else stdout")
    args = parser.parse_args(argv)
    for run in args.runs:
        if "=" not in run:
            parser.error(f"{run}: NAME=CHECKPOINT")
    return args


def run(args: argparse.Namespace) -> None:
    from fairseq_electra.runs.measure_features import load, measure, probe

    found = {}
    tagged = [read_conll(path)[: args.sentences] for path in args.probe or ()]
    for spec in args.runs:
        name, _, checkpoint = spec.partition("=")
        model, task = load(checkpoint)
        found[name] = measure(model, task, args.sentences)
        if tagged:
            found[name].update(probe(model, task, *tagged))
    text = json.dumps(found, indent=1) + "\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
