"""What the machine is: GPU, driver, versions, and what it reaches: matrix products, copies."""

import shutil
import statistics
import subprocess

import torch

from fairseq_electra.optim.electra_optimizer import apex_obstacle
from scripts.benchmark.run import describe_machine
from scripts.benchmark.timing import REPEATS, time_call
from scripts.gpu.common import parse_args, write

ROUNDS = 5
SIDE = {"cuda": 8192, "cpu": 512}  # of the matrices
COPY_BYTES = {"cuda": 4 << 30, "cpu": 64 << 20}


def measure_peaks(device: torch.device) -> dict:
    """FLOPs a second of a large matrix product by type; float32 with and without TF32."""
    side = SIDE[device.type]
    kinds = {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}
    if device.type == "cuda":
        kinds["tf32"] = torch.float32
    peaks = {}
    for name, dtype in kinds.items():
        torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
        a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        seconds = [
            time_call(lambda a=a, b=b: torch.mm(a, b), device, REPEATS[device.type])
            for _ in range(1 + ROUNDS)
        ]
        peaks[name] = 2 * side**3 / statistics.median(seconds[1:])
    torch.backends.cuda.matmul.allow_tf32 = False
    return peaks


def measure_copy(device: torch.device) -> float:
    """Bytes a second of a copy in the device's memory, those read and those written."""
    source = torch.randn(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    seconds = [
        time_call(lambda: target.copy_(source), device, REPEATS[device.type])
        for _ in range(1 + ROUNDS)
    ]
    return 2 * COPY_BYTES[device.type] / statistics.median(seconds[1:])


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
    write(path, {**machine, "copy": measure_copy(args.device)})
    write(path, {**machine, "copy": measure_copy(args.device), "peaks": measure_peaks(args.device)})


if __name__ == "__main__":
    main()
