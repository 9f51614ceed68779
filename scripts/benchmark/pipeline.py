"""What surrounds the step: optimizers, LayerNorm, the loading of data, fairseq-train as a whole."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Dict, List

import numpy as np
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.modules.compiling import compile_obstacle
from fairseq_electra.modules.encoder import LAYER_NORM_EPS
from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from fairseq_electra.optim.electra_lamb import ElectraLamb, ElectraLambConfig
from fairseq_electra.optim.electra_optimizer import apex_obstacle
from fairseq_electra.recipes import MOST_LOADERS
from fairseq_electra.tasks.electra import ElectraTask, ElectraTaskConfig
from scripts.benchmark.contenders import (
    Setting,
    build_ours,
    make_batches,
    make_cfg,
    make_dictionary,
)
from scripts.benchmark.timing import interleave

ROOT = Path(__file__).resolve().parents[2]
BYTES_PER_WEIGHT = 28  # read weight, gradient and two means, write all but the gradient: float32
LOADED_TOKENS = 2_000_000
UPDATES = {"cpu": 8, "cuda": 100}  # of fairseq-train
MICRO_BATCHES = {"cpu": 4, "cuda": 1}  # in each
LOG_INTERVAL = {"cpu": 1, "cuda": 10}
OPTIMIZERS = (
    ("adam", "FusedAdam", ("apex", "torch", "reference")),
    ("lamb", "FusedLAMB", ("apex", "torch")),
)


def measure_optimizers(setting: Setting, rounds: int) -> List[Dict]:
    """Both optimizers' implementations against the bytes that a step of Adam must move."""
    cfg = make_cfg(setting)
    model = ElectraModel(cfg, make_dictionary(setting.vocab_size), pretrain=True)
    parameters = list(model.to(setting.device).parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    calls, missing = {}, []
    for name, apex_class, impls in OPTIMIZERS:
        for impl in impls:
            label = f"--{name}-impl {impl}"
            obstacle = apex_obstacle(apex_class, parameters) if impl == "apex" else None
            if obstacle is not None:
                missing.append({"name": label, "note": f"not run: {obstacle}"})
                continue
            calls[label] = build_optimizer(name, impl, parameters).step
    weights = sum(parameter.numel() for parameter in parameters)
    source = torch.empty(weights * BYTES_PER_WEIGHT // 8, device=setting.device).fill_(1.0)
    target = torch.empty_like(source)
    calls["copy of as many bytes"] = lambda: target.copy_(source)
    times = interleave(calls, rounds, setting.device)
    copy = statistics.median(times["copy of as many bytes"])
    rows = [
        {"name": name, "milliseconds": 1e3 * median, "times_the_copy": median / copy}
        for name, median in ((name, statistics.median(seconds)) for name, seconds in times.items())
    ]
    return [*rows, *missing]


def build_optimizer(name: str, impl: str, parameters: List[torch.nn.Parameter]):
    """electra_adam or electra_lamb by an implementation."""
    if name == "adam":
        return ElectraAdam(ElectraAdamConfig(lr=[1e-4], adam_impl=impl), parameters)
    return ElectraLamb(ElectraLambConfig(lr=[1e-4], lamb_impl=impl), parameters)


def measure_layer_norm(setting: Setting, rounds: int) -> List[Dict]:
    """torch's LayerNorm, the same compiled, and Apex's, on a batch's bf16 hidden states."""
    hidden = make_cfg(setting).encoder_embed_dim
    x = torch.randn(setting.batch * setting.tokens, hidden, device=setting.device)
    x = x.bfloat16().requires_grad_()
    norm = torch.nn.LayerNorm(hidden, eps=LAYER_NORM_EPS).to(setting.device)
    kinds, missing = {"torch": norm}, []
    if (obstacle := compile_obstacle("default", setting.device)) is None:
        kinds["torch, compiled"] = torch.compile(norm, dynamic=False)
    else:
        missing.append({"name": "torch, compiled", "note": f"not run: {obstacle}"})
    try:
        from apex.normalization import MixedFusedLayerNorm

        if setting.device.type != "cuda":
            raise ImportError("it needs a GPU")
        kinds["Apex"] = MixedFusedLayerNorm(hidden, eps=LAYER_NORM_EPS).to(setting.device)
    except ImportError as error:
        missing.append({"name": "Apex", "note": f"not run: {error}"})

    def train(kind: torch.nn.Module) -> None:
        with torch.autocast(setting.device.type, torch.bfloat16):
            kind(x).sum().backward()

    calls = {name: partial(train, kind) for name, kind in kinds.items()}
    times = interleave(calls, rounds, setting.device)
    rows = [
        {"name": name, "milliseconds": 1e3 * statistics.median(seconds)}
        for name, seconds in times.items()
    ]
    return [*rows, *missing]


def write_data_bin(folder: Path, setting: Setting, num_tokens: int) -> Path:
    """A data-bin of random words as fairseq-preprocess writes it, lines of 24 tokens."""
    data = folder / "data-bin"
    data.mkdir()
    dictionary = make_dictionary(setting.vocab_size)
    names = [symbol for symbol in dictionary.symbols[dictionary.nspecial :] if symbol != "<mask>"]
    (data / "dict.txt").write_text("".join(f"{name} 1\n" for name in names))
    generator = torch.Generator().manual_seed(1)
    for split, tokens in (("train", num_tokens), ("valid", 1000)):
        lines = torch.randint(4, 4 + len(names), (tokens // 24, 24), generator=generator)
        lines[:, -1] = dictionary.eos()
        builder = MMapIndexedDatasetBuilder(str(data / f"{split}.bin"), dtype=np.uint16)
        for line in lines:
            builder.add_item(line)
        builder.finalize(str(data / f"{split}.idx"))
    return data


def measure_loading(setting: Setting) -> List[Dict]:
    """Tokens a second that `--task electra` makes batches of, by the number of workers."""
    rows = []
    counts = [0, 1, 2, *(n for n in (4, 8) if n <= (os.cpu_count() or 1))]
    with tempfile.TemporaryDirectory() as folder:
        data = write_data_bin(Path(folder), setting, LOADED_TOKENS * max(1, counts[-1] // 2))
        cfg = ElectraTaskConfig(data=str(data), tokens_per_sample=setting.tokens, seed=1)
        task = ElectraTask.setup_task(cfg)
        task.load_dataset("train")
        for workers in counts:
            rows.append({"workers": workers, "tokens_per_second": load(task, setting, workers)})
    return rows


def load(task, setting: Setting, workers: int) -> float:
    """Tokens a second of one pass over the data."""
    batches = task.get_batch_iterator(
        task.dataset("train"), max_sentences=setting.batch, num_workers=workers
    ).next_epoch_itr(shuffle=True)
    first = next(batches)
    start = time.perf_counter()
    tokens = sum(batch["ntokens"] for batch in batches)
    assert first["ntokens"] > 0
    return tokens / (time.perf_counter() - start)


def measure_training(setting: Setting, compiled: bool) -> Dict:
    """fairseq-train against the bare step on such batches, before and after it.

    On a GPU in bf16, which is how one trains there.
    """
    device = setting.device.type
    options = {"precision": "bf16"} if device == "cuda" else {}
    if compiled:
        options["compile"] = "default"
    dictionary = make_dictionary(setting.vocab_size)
    contender = build_ours(setting, dictionary, **options)
    batches = make_batches(setting, dictionary)[: MICRO_BATCHES[device]]
    bare = {"bare step": lambda: [contender.step(batch) for batch in batches]}
    tokens = len(batches) * setting.batch * setting.tokens
    rounds = UPDATES["cpu"] // 4
    before = interleave(bare, rounds, setting.device)["bare step"]
    with tempfile.TemporaryDirectory() as folder:
        data = write_data_bin(Path(folder), setting, tokens * (UPDATES[device] + 1))
        whole = train(data, Path(folder), setting, options)
    after = interleave(bare, rounds, setting.device)["bare step"]
    rate = tokens / statistics.median([*before, *after])
    name = ", ".join([setting.name, *(f"--{key} {value}" for key, value in options.items())])
    return {"name": name, "bare": rate, "fairseq_train": whole, "share": whole / rate}


def train(data: Path, folder: Path, setting: Setting, options: Dict[str, str]) -> float:
    """Tokens a second that fairseq-train logs, the median over log lines but the first."""
    device = setting.device.type
    loaders = min(MOST_LOADERS, os.cpu_count() or 1) if device == "cuda" else 1
    command = [
        *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", ROOT / "fairseq_electra"),
        *("--task", "electra", "--criterion", "electra", "--arch", f"electra_{setting.size}"),
        *("--tokens-per-sample", setting.tokens, "--batch-size", setting.batch),
        *("--update-freq", MICRO_BATCHES[device], "--optimizer", "electra_adam", "--lr", "1e-4"),
        *("--dropout", setting.dropout, "--attention-dropout", setting.dropout),
        *("--lr-scheduler", "electra_decay", "--warmup-updates", 2, "--clip-norm", 1.0),
        *("--max-update", UPDATES[device], "--log-interval", LOG_INTERVAL[device]),
        *("--num-workers", loaders, "--log-format", "json"),
        *("--disable-validation", "--no-save", "--save-dir", folder / "save"),
        *(word for key, value in options.items() for word in (f"--{key}", value)),
        *(["--cpu"] if device == "cpu" else []),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        check=False,
    )
    rates = read_rates(done.stdout)
    if done.returncode != 0 or len(rates) < 2:
        raise SystemExit(f"fairseq-train failed:\n{done.stdout[-2000:]}")
    return statistics.median(rates[1:])


def read_rates(log: str) -> List[float]:
    """Tokens a second of each line of progress; fairseq writes large ones as 1.23457e+06."""
    lines = [line for line in log.splitlines() if "| train_inner | {" in line]
    return [float(json.loads(line[line.index("{") :])["wps"]) for line in lines]
