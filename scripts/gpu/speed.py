"""Training steps a second: ELECTRA in bf16, Hugging Face's, fairseq's RoBERTa; the optimizer.

What matters most comes first, and each row is written as soon as it is measured.
"""

import math
import statistics
from dataclasses import replace
from functools import partial
from typing import Callable, Dict, List, Tuple

import torch

from fairseq_electra.modules.compiling import compile_obstacle
from scripts.benchmark.contenders import (
    HAS_TRANSFORMERS,
    Contender,
    Setting,
    build_hugging_face,
    build_ours,
    build_roberta,
    make_batches,
    make_dictionary,
)
from scripts.benchmark.pipeline import measure_optimizers
from scripts.benchmark.run import measure_group
from scripts.gpu.common import SETTINGS, make_setting, parse_args, write

ROUNDS = {"cuda": 5, "cpu": 1}
EVEN_VOCAB_SIZE = 30_528  # a multiple of 64, as matrix units like them
COMPILED = ("default", "reduce-overhead")

Build = Callable[[], List[Contender]]


def list_builds(settings: List[Setting]) -> List[Tuple[Setting, str, Build]]:
    """What is measured, in order: all settings plainly, then what takes long to compile."""
    plain, compiled = [], []
    for setting in settings:
        dictionary = make_dictionary(setting.vocab_size)

        def ours(setting=setting, dictionary=dictionary, **options) -> List[Contender]:
            return [build_ours(setting, dictionary, **options)]

        def in_bf16(contenders: List[Contender]) -> List[Contender]:
            return [each for each in contenders if each.dtype == "bf16"]

        roberta = partial(build_roberta, setting, dictionary)
        plain += [
            (setting, "ELECTRA", partial(ours, precision="bf16")),
            (setting, "RoBERTa, autocast", lambda build=roberta: in_bf16(build())),
        ]
        if setting.device.type == "cuda":
            plain.append((setting, "RoBERTa, --bf16", partial(roberta, "bf16")))
        if HAS_TRANSFORMERS:
            hugging_face = partial(build_hugging_face, setting, dictionary, "sdpa")
            plain.append((setting, "Hugging Face", lambda build=hugging_face: in_bf16(build())))
        for mode in COMPILED:
            if compile_obstacle(mode, setting.device) is None:
                build = partial(ours, precision="bf16", compile=mode)
                compiled.append((setting, f"ELECTRA, {mode}", build))
    compiled.sort(key=lambda row: row[1])  # "default" of all settings first
    first = settings[0]
    if first.device.type == "cuda":
        even = replace(first, vocab_size=EVEN_VOCAB_SIZE)
        build = partial(build_ours, even, make_dictionary(EVEN_VOCAB_SIZE), precision="bf16")
        plain.append((even, "ELECTRA, 30 528 pieces", lambda: [build()]))
    return plain + compiled


def measure(setting: Setting, title: str, build: Build, peaks: Dict[str, List[float]]) -> Dict:
    """A row: tokens and FLOPs a second, the share of the peak measured beside it, memory."""
    row = {"setting": setting.name, "title": title}
    try:
        built = build()
        (measured,) = measure_group(
            built,
            setting,
            make_batches(setting, make_dictionary(setting.vocab_size)),
            ROUNDS[setting.device.type],
            peaks,
        )
    except Exception as error:  # whatever it is, the next row may work
        return {**row, "note": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
    if "note" not in measured:
        peak = statistics.median(peaks.get("bf16", [math.nan]))
        measured["share_of_peak"] = measured["flops_per_second"] / peak
    return {**row, **measured}


def main() -> None:
    args = parse_args()
    settings = [make_setting(args.device, n) for n in range(len(SETTINGS[args.device.type]))]
    result = {"rows": [], "optimizers": []}
    peaks: Dict[str, List[float]] = {}
    for setting, title, build in list_builds(settings):
        result["rows"].append(measure(setting, title, build, peaks))
        write(args.out / "speed.json", result)
        torch._dynamo.reset()
        if args.device.type == "cuda":
            torch.cuda.empty_cache()
        if not result["optimizers"] and title.startswith("Hugging Face"):
            result["optimizers"] = measure_optimizers(settings[-1], ROUNDS[args.device.type])
            write(args.out / "speed.json", result)


if __name__ == "__main__":
    main()
