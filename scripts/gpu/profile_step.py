"""Where a step's time goes: the most expensive kernels, matrix products, gaps between kernels."""

import re
from itertools import cycle
from typing import Dict

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from scripts.benchmark.contenders import Setting, build_ours, make_batches, make_dictionary
from scripts.benchmark.timing import time_call
from scripts.gpu.common import make_setting, parse_args, write

TOP = 10
STEPS = 5
# cuBLAS, CUTLASS and the CPU's; attention's kernels are products too, but not those alone
PRODUCT = re.compile(r"gemm|cutlass|cublas|nvjet|xmma|wgmma|\bmm\b|addmm|bmm|matmul", re.IGNORECASE)
ATTENTION = re.compile(r"flash|fmha|attention", re.IGNORECASE)


def measure(setting: Setting) -> Dict:
    """Milliseconds of a step, and of its kernels (on the CPU: operators) the TOP and the sums."""
    dictionary = make_dictionary(setting.vocab_size)
    contender = build_ours(setting, dictionary, precision="bf16")
    on_gpu = setting.device.type == "cuda"
    turn = cycle(make_batches(setting, dictionary))
    for _ in range(3):
        contender.step(next(turn))
    wall = time_call(lambda: contender.step(next(turn)), setting.device, STEPS)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        time_call(lambda: contender.step(next(turn)), setting.device, STEPS)
    kernels: Dict[str, float] = {}
    calls: Dict[str, int] = {}
    for event in profiler.key_averages():
        if on_gpu and event.device_type != DeviceType.CUDA:
            continue
        if getattr(event, "is_user_annotation", False):  # it spans kernels that are counted too
            continue
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        kernels[event.key] = kernels.get(event.key, 0.0) + spent / 1e3 / STEPS
        calls[event.key] = calls.get(event.key, 0) + event.count // STEPS
    busy = sum(kernels.values())
    top = sorted(kernels, key=kernels.get, reverse=True)[:TOP]
    return {
        "setting": setting.name,
        "step_ms": wall * 1e3,
        "busy_ms": busy,
        "gaps": max(0.0, 1 - busy / (wall * 1e3)),
        "products": sum(ms for key, ms in kernels.items() if PRODUCT.search(key)) / busy,
        "attention": sum(ms for key, ms in kernels.items() if ATTENTION.search(key)) / busy,
        "kernels": sum(calls.values()),
        "top": [{"name": key[:120], "ms": kernels[key], "calls": calls[key]} for key in top],
    }


def main() -> None:
    args = parse_args()
    result = {"rows": []}
    for number in (0, -1):
        result["rows"].append(measure(make_setting(args.device, number)))
        write(args.out / "profile.json", result)


if __name__ == "__main__":
    main()
