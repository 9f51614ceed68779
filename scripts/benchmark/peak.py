"""What a machine is, and how fast it multiplies matrices: the peak that shares are of.

In: a path. Out: a JSON file with the device, versions, date and the peak in FLOPs a second of each
dtype that it has instructions for; measured once.
"""

import json
import statistics
from pathlib import Path

import torch

from scripts.benchmark.run import PEAK_SIDE, describe_machine, list_peak_dtypes, multiply
from scripts.benchmark.timing import time_call

ROUNDS = 7


def measure_machine(path: Path) -> dict:
    """Read `path`, or measure this machine and write it."""
    if not path.exists():
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        machine = {**describe_machine(device.type), "peaks": {}}
        for name, dtype in list_peak_dtypes(device).items():
            call = multiply(device, dtype)
            seconds = [time_call(call, device) for _ in range(1 + ROUNDS)][1:]
            machine["peaks"][name] = 2 * PEAK_SIDE[device.type] ** 3 / statistics.median(seconds)
        path.write_text(json.dumps(machine, indent=1) + "\n", "utf-8")
    return json.loads(path.read_text("utf-8"))
