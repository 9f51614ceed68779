"""Where a step's time goes: the most expensive kernels, matrix products, gaps between kernels."""

import re
import time
from typing import Dict

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from scripts.benchmark.contenders import Setting, build_ours, make_batches, make_dictionary
from scripts.gpu.common import list_settings, parse_args, write

TOP = 10
STEPS = 5
# cuBLAS, CUTLASS and the CPU's; attention's kernels are products too, but not those alone
PRODUCT = re.compile(r"gemm|cutlass|cublas|nvjet|xmma|wgmma|\bmm\b|addmm|bmm|matmul", re.IGNORECASE)
ATTENTION = re.compile(r"flash|fmha|attention", re.IGNORECASE)


def measure(setting: Setting) -> Dict:
    """Milliseconds of a step, and of its kernels (on the CPU: operators) the TOP and the sums."""
    dictionary = make_dictionary(setting.vocab_size)
    contender = build_ours(setting, dictionary, precision="bf16")
    batches = make_batches(setting, dictionary)
    on_gpu = setting.device.type == "cuda"
    for number in range(3):
        contender.step(batches[number % len(batches)])
    wall = time_steps(contender, batches, on_gpu)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiler:
        time_steps(contender, batches, on_gpu)
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


def time_steps(contender, batches, on_gpu: bool) -> float:
    """Seconds of a step, the mean of STEPS in a row."""
    if on_gpu:
        torch.cuda.synchronize()
    start = time.perf_counter()
    for number in range(STEPS):
        contender.step(batches[number % len(batches)])
    if on_gpu:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / STEPS


def main() -> None:
    args = parse_args()
    result = {"rows": []}
    settings = list_settings(args.device)
    for setting in [settings[0], settings[-1]]:
        result["rows"].append(measure(setting))
        write(args.out / "profile.json", result)


if __name__ == "__main__":
    main()
