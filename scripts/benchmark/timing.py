"""Times of things that run in turn, so that a machine that drifts drifts for all of them."""

import time
from collections import defaultdict
from typing import Callable, Dict, List

import torch

# The first call compiles and makes the optimizer's state; CUDA graphs are recorded at the second.
WARM_UPS = {"cpu": 1, "cuda": 3}
REPEATS = {"cpu": 1, "cuda": 10}  # calls a sample: on a GPU the CPU runs ahead of the device


def time_call(call: Callable[[], None], device: torch.device, repeats: int = 1) -> float:
    """Seconds of a call, the mean of `repeats` in a row, the device's work included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / repeats


def warm_up(calls: Dict[str, Callable[[], None]], rounds: int, device: torch.device) -> None:
    """Call each a few times, and say how long the rounds will take."""
    expected = 0.0
    for name, call in list(calls.items()):
        try:
            first = time_call(call, device)
            seconds = first
            for _ in range(WARM_UPS[device.type] - 1):
                seconds = time_call(call, device)
        except torch.OutOfMemoryError:
            print(f"  {name}: not enough memory", flush=True)
            del calls[name]
            torch.cuda.empty_cache()
            continue
        print(f"  first step of {name}: {first:.1f} s", flush=True)
        expected += seconds * rounds * REPEATS[device.type]
    print(f"  {rounds} rounds, about {expected / 60:.1f} minutes", flush=True)


def interleave(
    calls: Dict[str, Callable[[], None]], rounds: int, device: torch.device
) -> Dict[str, List[float]]:
    """Seconds of `rounds` samples of each, in turn, after a warm-up.

    What the GPU has not enough memory for is taken out of `calls`, and has no times.
    """
    warm_up(calls, rounds, device)
    times = defaultdict(list)
    for number in range(rounds):
        start = time.perf_counter()
        for name, call in calls.items():
            times[name].append(time_call(call, device, REPEATS[device.type]))
        print(f"  round {number + 1}: {time.perf_counter() - start:.1f} s", flush=True)
    return times
