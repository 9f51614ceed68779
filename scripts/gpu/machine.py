"""What the machine is: GPU, driver, versions, and what it reaches: matrix products, copies."""

import shutil
import statistics
import subprocess
from typing import Callable

import torch

from fairseq_electra.optim.electra_optimizer import apex_obstacle
from scripts.benchmark.run import PEAK_SIDE, describe_machine, list_peak_dtypes, multiply
from scripts.benchmark.timing import REPEATS, time_call
from scripts.gpu.common import parse_args, write

ROUNDS = 5
COPY_BYTES = {"cuda": 4 << 30, "cpu": 64 << 20}


def measure_peaks(device: torch.device) -> dict:
    """FLOPs a second of a large matrix product by type; on a GPU float32 with TF32 too."""
    kinds = list_peak_dtypes(device)
    if device.type == "cuda":
        kinds["tf32"] = torch.float32
    peaks = {}
    for name, dtype in kinds.items():
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        seconds = measure(multiply(device, dtype), device)
        peaks[name] = 2 * PEAK_SIDE[device.type] ** 3 / seconds
    torch.backends.cuda.matmul.allow_tf32 = False
    return peaks


def measure(call: Callable[[], None], device: torch.device) -> float:
    """Seconds of a call, the median of ROUNDS after one that warms up."""
    seconds = [time_call(call, device, REPEATS[device.type]) for _ in range(1 + ROUNDS)]
    return statistics.median(seconds[1:])


def measure_copy(device: torch.device) -> float:
    """Bytes a second of a copy in the device's memory, those read and those written."""
    source = torch.randn(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES[device.type] / measure(lambda: target.copy_(source), device)


def read_driver() -> str:
    """The driver's version, as nvidia-smi has it; "-" without one."""
    if not shutil.which("nvidia-smi"):
        return "-"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "-"


def main() -> None:
    args = parse_args()
    weight = torch.nn.Parameter(torch.zeros(4, device=args.device))
    machine = {
        **describe_machine(args.device.type),
        "driver": read_driver(),
        "cuda": torch.version.cuda or "-",
        "apex": apex_obstacle("FusedAdam", [weight]) or "there",
    }
    if args.device.type == "cuda":
        properties = torch.cuda.get_device_properties(args.device)
        machine["memory_bytes"] = properties.total_memory
        machine["multiprocessors"] = properties.multi_processor_count
    path = args.out / "machine.json"
    write(path, machine)
    for name, measure_it in (("copy", measure_copy), ("peaks", measure_peaks)):
        machine[name] = measure_it(args.device)
        write(path, machine)


if __name__ == "__main__":
    main()
