"""What surrounds the step: the optimizer, the loading of data, and fairseq-train as a whole."""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import torch
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

from benchmark_contenders import Setting, build_ours, make_batches, make_cfg, make_dictionary
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from fairseq_electra.optim.electra_optimizer import apex_obstacle
from fairseq_electra.tasks.electra import ElectraTask, ElectraTaskConfig

ROOT = Path(__file__).resolve().parent.parent
BYTES_PER_WEIGHT = 28  # read weight, gradient and two means, write all but the gradient: float32
LOADED_TOKENS = 2_000_000
UPDATES = 8  # of fairseq-train
MICRO_BATCHES = 4  # in each


def measure_optimizer(setting: Setting, rounds: int, interleave: Callable) -> List[Dict]:
    """electra_adam's implementations against the bytes that a step must move."""
    cfg = make_cfg(setting)
    model = ElectraModel(cfg, make_dictionary(setting.vocab_size), pretrain=True)
    parameters = list(model.to(setting.device).parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    calls, missing = {}, []
    for impl in ("apex", "torch", "reference"):
        obstacle = apex_obstacle("FusedAdam", parameters) if impl == "apex" else None
        if obstacle is not None:
            missing.append({"name": "--adam-impl apex", "note": f"not run: {obstacle}"})
            continue
        optimizer = ElectraAdam(ElectraAdamConfig(lr=[1e-4], adam_impl=impl), parameters)
        calls[f"--adam-impl {impl}"] = optimizer.step
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
    with tempfile.TemporaryDirectory() as folder:
        data = write_data_bin(Path(folder), setting, LOADED_TOKENS)
        cfg = ElectraTaskConfig(data=str(data), tokens_per_sample=setting.tokens, seed=1)
        task = ElectraTask.setup_task(cfg)
        task.load_dataset("train")
        for workers in (0, 1, 2):
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


def measure_training(setting: Setting, interleave: Callable) -> Dict:
    """fairseq-train at MICRO_BATCHES batches an update, against the bare step on such batches."""
    dictionary = make_dictionary(setting.vocab_size)
    contender = build_ours(setting, dictionary)
    batches = make_batches(setting, dictionary)
    bare = {"bare step": lambda: [contender.step(batch) for batch in batches[:MICRO_BATCHES]]}
    tokens = MICRO_BATCHES * setting.batch * setting.tokens
    before = interleave(bare, UPDATES // 4, setting.device)["bare step"]
    with tempfile.TemporaryDirectory() as folder:
        data = write_data_bin(Path(folder), setting, int(tokens * (UPDATES + 1)))
        whole = train(data, Path(folder), setting)
    after = interleave(bare, UPDATES // 4, setting.device)["bare step"]
    rate = tokens / statistics.median([*before, *after])
    return {"bare": rate, "fairseq_train": whole, "share": whole / rate}


def train(data: Path, folder: Path, setting: Setting) -> float:
    """Tokens a second that fairseq-train logs, the median over updates but the first."""
    command = [
        *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", ROOT / "fairseq_electra"),
        *("--task", "electra", "--criterion", "electra", "--arch", f"electra_{setting.size}"),
        *("--tokens-per-sample", setting.tokens, "--batch-size", setting.batch),
        *("--update-freq", MICRO_BATCHES, "--optimizer", "electra_adam", "--lr", "1e-4"),
        *("--dropout", setting.dropout, "--attention-dropout", setting.dropout),
        *("--lr-scheduler", "electra_decay", "--warmup-updates", 2, "--max-update", UPDATES),
        *("--clip-norm", 1.0, "--num-workers", 1, "--log-interval", 1, "--log-format", "simple"),
        *("--disable-validation", "--no-save", "--save-dir", folder / "save"),
        *(["--cpu"] if setting.device.type == "cpu" else []),
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
    rates = [float(rate) for rate in re.findall(r"wps=([\d.]+)", done.stdout)]
    if done.returncode != 0 or len(rates) < 2:
        raise SystemExit(f"fairseq-train failed:\n{done.stdout[-2000:]}")
    return statistics.median(rates[1:])
