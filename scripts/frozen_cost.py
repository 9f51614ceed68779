#!/usr/bin/env python
"""What an update costs with a frozen generator, and with no discriminator to train.

    python scripts/frozen_cost.py --rounds 20

Whole steps (forward, backward, AdamW) of `electra_tiny` in this process, one of each kind in turn,
so that what else the machine does falls on all alike. Out: for generators of 1/4 and 1 the median
of each kind as a share of the usual step's, beside the share of its FLOPs.
"""

import argparse
import statistics
import time

import torch

from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.pick_dataset import max_picks
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.recipes import SIZES
from fairseq_electra.runs.count_flops import TransformerSize, electra_flops, without_judging

SENTENCES, LENGTH, MASK_PROB = 32, 64, 0.3
KINDS = {  # options of the model and of the criterion
    "usual": ({}, {}),
    "frozen": ({"freeze_generator": True}, {}),
    "--disc-weight 0": ({}, {"disc_weight": 0.0}),
}


def make_sample(num_tokens: int) -> dict:
    """A batch of random words without padding."""
    picks = max_picks(MASK_PROB, LENGTH)
    picked = torch.rand(SENTENCES, LENGTH).argsort(1)[:, :picks]
    net_input = {
        "src_tokens": torch.randint(4, num_tokens - 1, (SENTENCES, LENGTH)),
        "picked": picked,
        "picked_weights": torch.ones(SENTENCES, picks),
        "becomes_mask": torch.rand(SENTENCES, picks) < 0.85,
        "uniform": 1 - torch.rand(SENTENCES, picks, dtype=torch.float64),
        "has_padding": False,
    }
    counts = {"ntokens": SENTENCES * LENGTH, "npicked": picked.numel(), "nsentences": SENTENCES}
    return {"net_input": net_input, **counts}


def make_step(dictionary, generator_size: float, kind: str):
    """A function that makes one update."""
    options, weights = KINDS[kind]
    sizes = {**SIZES["tiny"]._asdict(), "generator_size": generator_size}
    model = ElectraModel(ElectraConfig(**sizes, **options), dictionary, pretrain=True).train()
    task = type("Task", (), {"target_dictionary": dictionary})()
    criterion = ElectraCriterion(ElectraCriterionConfig(**weights), task)
    trained = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    sample = make_sample(len(dictionary))

    def step() -> None:
        loss, _, _ = criterion(model, sample)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def count(generator_size: float, num_tokens: int, kind: str) -> float:
    """FLOPs a token."""
    *sizes, _ = SIZES["tiny"]
    setting = (TransformerSize(*sizes), generator_size, num_tokens, LENGTH, MASK_PROB)
    parts = electra_flops(*setting, is_frozen=kind == "frozen")
    return sum((without_judging(parts) if kind == "--disc-weight 0" else parts).values())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="steps of each kind")
    parser.add_argument("--words", type=int, default=8000)
    args = parser.parse_args()
    from fairseq.data import Dictionary

    torch.manual_seed(1)
    dictionary = Dictionary()
    for word in [*(f"w{number}" for number in range(args.words)), "<mask>"]:
        dictionary.add_symbol(word)
    print(f"{'generator':12}{'kind':18}{'time':>8}{'FLOPs':>8}")
    for size in (0.25, 1.0):
        steps = {kind: make_step(dictionary, size, kind) for kind in KINDS}
        seconds = {kind: [] for kind in KINDS}
        for _ in range(args.rounds + 2):  # the first two warm up
            for kind, step in steps.items():
                start = time.process_time()
                step()
                seconds[kind].append(time.process_time() - start)
        medians = {kind: statistics.median(times[2:]) for kind, times in seconds.items()}
        flops = {kind: count(size, len(dictionary), kind) for kind in KINDS}
        for kind in KINDS:
            time_share = medians[kind] / medians["usual"]
            flops_share = flops[kind] / flops["usual"]
            print(f"{size:<12g}{kind:18}{time_share:8.2f}{flops_share:8.2f}")


if __name__ == "__main__":
    main()
