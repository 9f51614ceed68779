"""What the steps of check_gpu.sh share: arguments, results written at once, settings."""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from scripts.benchmark.contenders import Setting, build_ours, make_batches, make_dictionary

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


def make_setting(device: torch.device, number: int) -> Setting:
    """One of SETTINGS, by its number; a GPU's memory decides the batch where none is given."""
    size, tokens, batch = SETTINGS[device.type][number]
    vocab_size = VOCAB_SIZE if device.type == "cuda" else 100
    setting = Setting(size, tokens, batch, device, vocab_size, DROPOUT)
    return setting if batch else fill(setting)


def fill(setting: Setting) -> Setting:
    """With the largest batch that should fit the GPU, judged by steps of 8 and 16 sequences."""
    dictionary = make_dictionary(setting.vocab_size)
    contender = build_ours(replace(setting, batch=16), dictionary, precision="bf16")
    peaks = []
    for batch in (8, 16):
        (sample,) = make_batches(replace(setting, batch=batch), dictionary, 1)
        contender.step(sample)
        torch.cuda.reset_peak_memory_stats()
        contender.step(sample)
        peaks.append(torch.cuda.max_memory_allocated())
    del contender
    torch.cuda.empty_cache()
    memory = torch.cuda.get_device_properties(setting.device).total_memory
    return replace(setting, batch=choose_batch(*peaks, memory, MOST[setting.size]))


def choose_batch(of_8: int, of_16: int, memory: int, most: int, share: float = 0.8) -> int:
    """The largest power of two, from 16 to `most`, of sequences that take `share` of the memory.

    Args:
        of_8, of_16: bytes that so many sequences take, with weights and optimizer.
    """
    each = max(1, (of_16 - of_8) / 8)
    batch = 16
    while 2 * batch <= most and of_8 + (2 * batch - 8) * each <= share * memory:
        batch *= 2
    return batch
