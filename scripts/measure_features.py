"""Measures the features of pre-trained encoders on held-out text: how many directions are alive.

In: pre-training checkpoints of ELECTRA or electra_mlm with one data-bin, as NAME=CHECKPOINT;
NAME=untrained:CHECKPOINT is the encoder as that training began, with another seed. Out: JSON, by
name, with feature_dims (effective dimensions) and feature_mean (share of the mean) of the last
layer on the text as it is. compare_runs.py --features takes it.
"""

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Dict

import torch
from fairseq.data import data_utils

from fairseq_electra.criterions.feature_metrics import compute_feature_metrics, sum_features
from finetuned_model import build, read_state

UNTRAINED = "untrained:"
SEED = 1
BATCH = 64


def load(spec: str):
    """Model in evaluation mode and task.

    Raises:
        ValueError: if there is no such checkpoint, its data is gone, or it is another model's.
    """
    path = Path(spec.removeprefix(UNTRAINED))
    state = read_state(path, None)
    folder = Path(state["cfg"]["task"]["data"])
    if not folder.is_dir():
        raise ValueError(f"{path}: its data-bin {folder} is not there")
    model, task = build(path, state, folder)
    if not hasattr(model, "encode"):
        raise ValueError(f"{path} holds a {type(model).__name__}, which is no encoder of ELECTRA's")
    if spec.startswith(UNTRAINED):
        torch.manual_seed(SEED)
        model = task.build_model(state["cfg"]["model"]).eval()
    return model, task


@torch.no_grad()
def measure(spec: str, sentences: int) -> Dict[str, float]:
    """Feature metrics of the first blocks of the validation split."""
    model, task = load(spec)
    path = str(Path(task.cfg.data) / "valid")
    length = task.cfg.tokens_per_sample - 2
    stream = data_utils.load_indexed_dataset(path, task.source_dictionary)
    words = torch.cat([stream[index] for index in range(len(stream))])
    blocks = words[: len(words) // length * length].view(-1, length)[:sentences]
    bos, eos = task.source_dictionary.bos(), task.source_dictionary.eos()
    ends = torch.full((len(blocks), 1), bos), torch.full((len(blocks), 1), eos)
    sums = 0
    for tokens in torch.cat([ends[0], blocks, ends[1]], 1).split(BATCH):
        sums = sums + sum_features(model.encode(tokens)[0], torch.ones_like(tokens).bool())
    return compute_feature_metrics(sums)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="NAME=CHECKPOINT")
    parser.add_argument("--sentences", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--out", type=Path, help="file to write; else stdout")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    found = {}
    for run in args.runs:
        name, equals, spec = run.partition("=")
        if not equals:
            parser.error(f"{run}: NAME=CHECKPOINT")
        try:
            found[name] = measure(spec, args.sentences)
        except (ValueError, OSError) as error:
            sys.exit(f"measure_features.py: {error}")
    text = json.dumps(found, indent=1) + "\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
