"""What the steps of check_gpu.sh share: arguments, results written at once, settings."""

import argparse
import json
from pathlib import Path
from typing import List

import torch

from scripts.benchmark.contenders import Setting

VOCAB_SIZE = 30_522  # BERT's
DROPOUT = 0.1
# size, tokens, sequences; 0: as many as fill the GPU
SETTINGS = {
    "cuda": [("small", 128, 128), ("small", 128, 0), ("base", 512, 0)],
    "cpu": [("tiny", 16, 2), ("tiny", 32, 2)],
}
MOST = {"small": 2048, "base": 64}  # sequences: a GPU that has room for more is busy with these


def parse_args(argv=None) -> argparse.Namespace:
    """`--out`, `--device`, and `--data` for the step that has it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["cpu", "cuda"], required=True)
    parser.add_argument("--data", type=Path)
    args = parser.parse_args(argv)
    args.device = torch.device(args.device)
    return args


def write(path: Path, result: dict) -> None:
    """Write a step's result, whole, however often: the step may be stopped at any moment."""
    new = path.with_suffix(".tmp")
    new.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    new.replace(path)


def list_settings(device: torch.device) -> List[Setting]:
    """What is measured on a device; a GPU's memory decides the batch where none is given."""
    vocab_size = VOCAB_SIZE if device.type == "cuda" else 100
    settings = [
        Setting(size, tokens, batch, device, vocab_size, DROPOUT)
        for size, tokens, batch in SETTINGS[device.type]
    ]
    return [setting if setting.batch else fill(setting) for setting in settings]


def fill(setting: Setting, share: float = 0.8) -> Setting:
    """The setting with the largest batch, a power of two, that takes at most `share` of the GPU.

    Measured by steps of 8 and 16 sequences: the difference is what a sequence takes.
    """
    from dataclasses import replace

    from scripts.benchmark.contenders import build_ours, make_batches, make_dictionary

    dictionary = make_dictionary(setting.vocab_size)
    contender = build_ours(replace(setting, batch=16), dictionary, precision="bf16")
    peaks = []
    for batch in (8, 16):
        (sample,) = make_batches(replace(setting, batch=batch), dictionary, 1)
        contender.step(sample)
        torch.cuda.reset_peak_memory_stats()
        contender.step(sample)
        peaks.append(torch.cuda.max_memory_allocated())
    each = max(1, (peaks[1] - peaks[0]) / 8)
    room = share * torch.cuda.get_device_properties(setting.device).total_memory
    most = int((room - peaks[0]) / each)
    batch = 16
    while batch * 2 <= min(most, MOST[setting.size]):
        batch *= 2
    del contender
    torch.cuda.empty_cache()
    return replace(setting, batch=batch)
