"""How fast it trains: this plugin, Hugging Face's ELECTRA and fairseq's RoBERTa in one run.

    python scripts/benchmark.py [--out DIR] [--sizes small@128 base@512] [--parts step growth ...]

Rounds are interleaved, so that a machine that drifts drifts for all; medians are compared. Writes
benchmark.md, benchmark.json and benchmark.png, and rewrites them after each part.
"""

import argparse
import math
import platform
import statistics
import sys
from datetime import date
from pathlib import Path
from typing import Callable, Dict, List

import fairseq
import torch

from fairseq_electra.models.electra import mixed_obstacle
from scripts.benchmark.contenders import (
    HAS_TRANSFORMERS,
    Contender,
    Setting,
    build_ours,
    count_state_bytes,
    list_contenders,
    make_batches,
    make_dictionary,
)
from scripts.benchmark.pipeline import (
    measure_layer_norm,
    measure_loading,
    measure_optimizers,
    measure_training,
)
from scripts.benchmark.report import write_report
from scripts.benchmark.sentences import measure_padding
from scripts.benchmark.timing import interleave

PARTS = ("step", "growth", "padding", "optimizer", "layernorm", "loading", "train")
PEAK_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is the machine's peak
PEAK_DTYPES = {
    "cpu": {"float32": torch.float32, "bf16": torch.bfloat16},
    "cuda": {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16},
}
SETTINGS = {  # on a GPU small at the paper's batch, and at one that fills it
    "cpu": (("small@128", 32), ("base@512", 2)),
    "cuda": (("small@128", 128), ("small@128", 1024), ("base@512", 32)),
}
BATCHES = {
    "cpu": {"tiny": 32, "small": 32, "base": 2, "large": 1},
    "cuda": {"tiny": 512, "small": 128, "base": 32, "large": 8},
}
GROWTH_LENGTHS = (128, 256, 512)
GROWTH_TOKENS = {"cpu": 4096, "cuda": 65536}  # a batch, for each length
GROWTH_BATCHES = {"cpu": (8, 32, 128), "cuda": (32, 128, 512, 2048)}


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    on_gpu = torch.cuda.is_available()
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark"), metavar="DIR")
    parser.add_argument(
        "--sizes",
        nargs="+",
        metavar="SIZE@TOKENS",
        help="what to measure (default: small@128 base@512; on a GPU small at two batch sizes)",
    )
    parser.add_argument(
        "--batch-size",
        nargs="+",
        type=int,
        metavar="N",
        help="sentences a batch, for each of --sizes (default: by size, smaller on a CPU)",
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="counted steps of each (default 5)")
    parser.add_argument("--vocab-size", type=int, default=30522, help="pieces (default 30522)")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if on_gpu else "cpu")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=on_gpu,
        help="measure the compiled modes too, minutes more (default: on a GPU)",
    )
    args = parser.parse_args(argv)
    if args.device == "cuda" and not on_gpu:
        parser.error("--device cuda: torch sees no GPU; available: cpu")
    if args.sizes is None:
        if args.batch_size is not None:
            parser.error("--batch-size needs --sizes, one size for each")
        args.sizes, args.batch_size = zip(*SETTINGS[args.device], strict=True)
    usual = BATCHES[args.device]
    args.batch_size = args.batch_size or [
        usual.get(size.partition("@")[0], 1) for size in args.sizes
    ]
    if len(args.batch_size) != len(args.sizes):
        parser.error(f"{len(args.batch_size)} --batch-size for {len(args.sizes)} --sizes")
    args.settings = [read_setting(parser, args, *pair) for pair in zip(args.sizes, args.batch_size)]
    return args


def read_setting(parser, args: argparse.Namespace, size: str, batch: int) -> Setting:
    """small@128 -> a Setting."""
    name, _, tokens = size.partition("@")
    if name not in ("tiny", "small", "base", "large") or not tokens.isdigit():
        parser.error(f"--sizes {size}: give tiny, small, base or large, @ and tokens: small@128")
    device = torch.device(args.device)
    return Setting(name, int(tokens), batch, device, args.vocab_size, args.dropout)


def describe_machine(device: str) -> Dict[str, str]:
    """What the numbers depend on."""
    name = platform.processor() or platform.machine()
    if device == "cuda":
        name = torch.cuda.get_device_name()
    elif Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        name = models[0] if models else name
    versions = {"torch": torch.__version__, "fairseq": fairseq.__version__}
    if HAS_TRANSFORMERS:
        import transformers

        versions["transformers"] = transformers.__version__
    return {
        "device": name,
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        **versions,
        "date": date.today().isoformat(),
    }


def count_activations(contender: Contender, batch: Dict) -> int:
    """Bytes that a step keeps for its backward pass, weights left out, each storage once."""
    sizes, weights = {}, {p.untyped_storage().data_ptr() for p in contender.parameters}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        contender.step(batch)
    return sum(sizes.values())


def list_peak_dtypes(device: torch.device) -> Dict[str, torch.dtype]:
    """Types whose peak is measured, by name: not bf16 on a CPU that computes it by software."""
    dtypes = dict(PEAK_DTYPES[device.type])
    if mixed_obstacle(device, True, torch.float32) is not None:
        del dtypes["bf16"]
    return dtypes


def multiply(device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """A matrix product of PEAK_SIDE, as large ones run at the machine's peak."""
    side = PEAK_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return lambda: torch.mm(a, b)


def measure_steps(setting: Setting, rounds: int, compiled: bool) -> Dict:
    """Every contender and the matrix products at one setting.

    All run in turn, but those that record CUDA graphs: a graph keeps its memory, so each of them
    is measured alone, beside the matrix products.
    """
    dictionary = make_dictionary(setting.vocab_size)
    batches = make_batches(setting, dictionary)
    groups, notes = list_contenders(setting, dictionary, compiled)
    peaks: Dict[str, List[float]] = {}
    rows = []
    for group in groups:
        built = [contender for build in group for contender in build()]
        rows += measure_group(built, setting, batches, rounds, peaks)
        del built
        torch._dynamo.reset()
        if setting.device.type == "cuda":
            torch.cuda.empty_cache()
    medians = {dtype: statistics.median(rates) for dtype, rates in peaks.items()}
    for row in rows:
        if "note" not in row:
            row["share_of_peak"] = row["flops_per_second"] / medians.get(row["dtype"], math.nan)
    return {
        "setting": setting.name,
        "peaks": medians,
        "rows": [*rows, *({"name": name, "note": note} for name, note in notes.items())],
        "rounds": rounds,
    }


def measure_group(
    built: List[Contender],
    setting: Setting,
    batches: List[Dict],
    rounds: int,
    peaks: Dict[str, List[float]],
) -> List[Dict]:
    """The rows of contenders that run in turn; adds what the matrix products reach to `peaks`."""
    counter = iter(range(10**9))
    calls = {
        contender.name: lambda c=contender: c.step(batches[next(counter) % len(batches)])
        for contender in built
    }
    dtypes = list_peak_dtypes(setting.device)
    calls |= {f"peak {name}": multiply(setting.device, dtype) for name, dtype in dtypes.items()}
    times = interleave(calls, rounds, setting.device)
    flops = 2 * PEAK_SIDE[setting.device.type] ** 3
    for name in dtypes:
        peaks.setdefault(name, []).append(flops / statistics.median(times[f"peak {name}"]))
    rows = []
    for contender in built:
        if contender.name not in times:
            rows.append({"name": contender.name, "note": "not run: not enough memory"})
            continue
        row = make_row(contender, times[contender.name], setting)
        if setting.device.type == "cuda":
            row["step_bytes"] = count_step_bytes(contender, batches[0])
        else:
            row["activation_bytes"] = count_activations(contender, batches[0])
        rows.append(row)
    return rows


def count_step_bytes(contender: Contender, batch: Dict) -> int:
    """Bytes of GPU memory that a step takes at most beside what stays between steps."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    contender.step(batch)
    return torch.cuda.max_memory_allocated() - before


def make_row(contender: Contender, seconds: List[float], setting: Setting) -> Dict:
    """The figures of one contender."""
    tokens = setting.batch * setting.tokens
    rate = tokens / statistics.median(seconds)
    return {
        "name": contender.name,
        "dtype": contender.dtype,
        "tokens_per_second": rate,
        "slowest": tokens / max(seconds),
        "fastest": tokens / min(seconds),
        "flops_per_second": rate * contender.flops_per_token,
        "state_bytes": count_state_bytes(contender),
        "tokens": tokens,
    }


def measure_growth(setting: Setting, rounds: int, compiled: bool) -> List[Dict]:
    """How the cost of our bf16 step grows with the tokens of a sentence, and with the batch."""
    dictionary = make_dictionary(setting.vocab_size)
    device = setting.device
    plan = [(tokens, max(1, GROWTH_TOKENS[device.type] // tokens)) for tokens in GROWTH_LENGTHS]
    plan += [(setting.tokens, batch) for batch in GROWTH_BATCHES[device.type]]
    options = {"compile": "default"} if compiled else {}
    rows = []
    for tokens, batch in plan:
        here = Setting(setting.size, tokens, batch, device, setting.vocab_size, setting.dropout)
        contender = build_ours(here, dictionary, precision="bf16", **options)
        batches = make_batches(here, dictionary, 1)
        call = {here.name: lambda c=contender, b=batches: c.step(b[0])}
        seconds = interleave(call, rounds, device).get(here.name)
        if seconds is None:
            rows.append({"name": here.name, "note": "not run: not enough memory"})
            continue
        rate = here.batch * here.tokens / statistics.median(seconds)
        flops = rate * contender.flops_per_token
        rows.append({"name": here.name, "tokens_per_second": rate, "flops_per_second": flops})
    return rows


def run_parts(args: argparse.Namespace) -> Dict:
    """Measure part by part, and write what there is after each."""
    result = {"machine": describe_machine(args.device), "command": args.command}
    measures = {
        "growth": lambda: measure_growth(args.settings[0], args.rounds, args.compile),
        "padding": lambda: measure_padding(args.settings[0], args.rounds),
        "optimizer": lambda: measure_optimizers(args.settings[-1], args.rounds),
        "layernorm": lambda: measure_layer_norm(args.settings[-1], args.rounds),
        "loading": lambda: measure_loading(args.settings[0]),
        "train": lambda: [measure_training(each, args.compile) for each in args.settings],
    }
    if not HAS_TRANSFORMERS:
        print("Hugging Face: not run, transformers is not installed (pip install -e '.[hf]')")
    for setting in args.settings if "step" in args.parts else []:
        print(f"step, {setting.name} ...", flush=True)
        result.setdefault("step", []).append(measure_steps(setting, args.rounds, args.compile))
        write_report(result, args.out)
    for part in [part for part in measures if part in args.parts]:
        print(f"{part} ...", flush=True)
        result[part] = measures[part]()
        write_report(result, args.out)
    return result


def main(argv=None) -> None:
    args = parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    args.command = " ".join(["python scripts/benchmark.py", *given])
    args.out.mkdir(parents=True, exist_ok=True)
    run_parts(args)
    print((args.out / "benchmark.md").read_text())
