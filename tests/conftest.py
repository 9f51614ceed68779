"""Fixtures that several test files use: a dictionary, tiny models, a data-bin, fairseq runs."""

import logging
import sys
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary

from commands import run, start_server
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.process.state import process_state
from tiny import TINY, TINY_OPTIONS, USER_DIR, make_dictionary


def pytest_configure(config):
    """The workers of `-n 2` share one server; it starts as they do."""
    if config.getoption("numprocesses", None):
        start_server()


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Tiny tensors do not gain from threads, and results do not depend on their number."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def fresh_process():
    """What a test's process remembers, and logging, which a command's main() may turn off."""
    yield
    process_state.reset()
    logging.disable(logging.NOTSET)


@pytest.fixture
def dictionary() -> Dictionary:
    return make_dictionary()


@pytest.fixture
def build_model():
    """A function that builds a tiny model, with options of ElectraConfig by keyword."""

    def build(dictionary=None, pretrain=True, seed=1, **options) -> ElectraModel:
        torch.manual_seed(seed)
        cfg = ElectraConfig(**{**TINY, **options})
        return ElectraModel(cfg, dictionary or make_dictionary(), pretrain)

    return build


@pytest.fixture(scope="session")
def run_command():
    return run


@pytest.fixture(scope="session")
def data_bin(tmp_path_factory) -> Path:
    """A small data-bin made by fairseq-preprocess: 300 lines that use 12 of 40 words."""
    raw = tmp_path_factory.mktemp("raw")
    generator = torch.Generator().manual_seed(3)
    for split, lines in (("train", 300), ("valid", 40)):
        with (raw / f"{split}.txt").open("w") as out:
            for line in range(lines):
                start, length = torch.randint(0, 30, (2,), generator=generator).tolist()
                words = [f"w{(start + step) % 12}" for step in range(4 + length % 20)]
                out.write(" ".join(words) + "\n")
                if line % 7 == 6:
                    out.write("\n")
    (raw / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    destination = tmp_path_factory.mktemp("bin") / "data"
    run(
        *(sys.executable, "-m", "fairseq_cli.preprocess", "--only-source"),
        *("--trainpref", raw / "train.txt", "--validpref", raw / "valid.txt"),
        *("--srcdict", raw / "dict.txt", "--destdir", destination),
    )
    return destination


@pytest.fixture(scope="session")
def train_electra():
    """A function that runs fairseq-train with the plugin at the tiny size; options are appended."""

    def train(data, save_dir, *options, check=True):
        return run(
            *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", USER_DIR, "--cpu"),
            *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny"),
            *TINY_OPTIONS,
            *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "1e-3"),
            *("--warmup-updates", 2, "--max-update", 6, "--clip-norm", 1.0),
            *("--tokens-per-sample", 32, "--batch-size", 8, "--num-workers", 0),
            *("--log-format", "json", "--log-interval", 1, "--save-dir", save_dir),
            *options,
            check=check,
        )

    return train
