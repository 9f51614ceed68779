"""Values that options cannot mean: refused by name, whatever else is given.

`VALUES=200 pytest tests/reliability/test_option_values.py -s` gives that many to fairseq-train and
prints what happened.
"""

import math
import os
import random
import re
from collections import Counter

import pytest
from fairseq.dataclass.configs import FairseqConfig
from omegaconf import OmegaConf

from commands import start
from fairseq_electra.compat.updates.option_checks import check_options
from fairseq_electra.criterions.electra import ElectraCriterionConfig, check_weights
from fairseq_electra.models.electra_config import ElectraConfig, check_config
from tiny import TINY, TINY_OPTIONS, USER_DIR

VALUES = int(os.environ.get("VALUES", 3))
LIMIT = 120  # seconds for a training of three updates
STRANGE = ("-1", "0", "nan", "inf", "1e30", "-0.5", "9" * 20, "", "abc")
OPTIONS = (
    *("--tokens-per-sample", "--mask-prob", "--gen-weight", "--disc-weight", "--temperature"),
    *("--generator-size", "--generator-layers", "--generator-ffn-embed-dim"),
    *("--generator-attention-heads", "--encoder-layers", "--encoder-embed-dim"),
    *("--encoder-ffn-embed-dim", "--encoder-attention-heads", "--embedding-size"),
    *("--max-positions", "--dropout", "--attention-dropout", "--layerwise-lr-decay"),
    *("--adam-betas", "--adam-eps", "--weight-decay", "--warmup-updates", "--power"),
    "--total-num-update",
)
# too large to learn with, but numbers: fairseq stops as soon as the gradients are none
DIVERGED = "gradients are Nan/Inf"


def train(data_bin, save_dir, *options):
    command = start(
        *("fairseq_cli.train", data_bin, "--user-dir", USER_DIR, "--cpu", "--task", "electra"),
        *("--criterion", "electra", "--arch", "electra_tiny", *TINY_OPTIONS, "--num-workers", 0),
        *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "1e-3"),
        *("--max-update", 3, "--warmup-updates", 1, "--tokens-per-sample", 32, "--batch-size", 8),
        *("--log-format", "json", "--no-save", "--save-dir", save_dir, *options),
    )
    return command.wait(LIMIT), command.output


def judge(option: str, status: int, output: str) -> str:
    """`trained`, `clear error`, `diverged`, or what is bad about it."""
    last = output.strip().splitlines()[-1]
    if status == 0:
        return "trained"
    if status > 0 and re.match(r"(ValueError: |train.py: error: argument )", last):
        return "clear error" if option in last else f"names no option: {last}"
    return "diverged" if DIVERGED in last else f"unclear ({status}): {last}"


def test_strange_values(data_bin, tmp_path):
    outcomes = Counter()
    cases = [(option, value) for option in OPTIONS for value in STRANGE]
    for option, value in random.Random(1).sample(cases, min(VALUES, len(cases))):
        outcome = judge(option, *train(data_bin, tmp_path, f"{option}={value}"))
        outcomes[outcome] += 1
        print(f"{option}={value}", outcome, sep="\t")
        assert outcome in ("trained", "clear error", "diverged"), f"{option}={value}: {outcome}"
        assert not list(tmp_path.glob("checkpoint*"))  # crash.pt of what diverged may be there
    print(dict(outcomes))
    assert outcomes["clear error"]


SIZES = [name for name in ElectraConfig.__dataclass_fields__ if re.search("dim|layers|heads", name)]


@pytest.mark.parametrize("name", [*SIZES, "embedding_size", "max_positions"])
def test_sizes_below_1_and_beyond_all_machines(name):
    check_config(ElectraConfig(**{**TINY, name: 2}))
    for value in (-1, 0, 10**20):
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')} must be from 1 to"):
            check_config(ElectraConfig(**{**TINY, name: value}))


@pytest.mark.parametrize(
    "name, values",
    [
        ("temperature", (0.0, -1.0, math.nan, math.inf)),
        ("generator_size", (0.0, -1.0, math.nan, math.inf, 1e30)),
        ("dropout", (-0.1, 1.0, math.nan)),
        ("attention_dropout", (-0.1, 1.0, math.nan)),
    ],
)
def test_numbers_without_meaning(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"--{name.replace('_', '-')}"):
            check_config(ElectraConfig(**{**TINY, name: value}))


@pytest.mark.parametrize("name", ["gen_weight", "disc_weight"])
def test_weights(name):
    check_weights(ElectraCriterionConfig(**{name: 0.0}))
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(
            ValueError, match=f"--{name.replace('_', '-')} must be a number, 0 or more"
        ):
            check_weights(ElectraCriterionConfig(**{name: value}))


def test_two_weights_of_0():
    with pytest.raises(ValueError, match="both 0"):
        check_weights(ElectraCriterionConfig(gen_weight=0.0, disc_weight=0.0))


@pytest.mark.parametrize(
    ("section", "option", "wrong", "right"),
    [
        ("dataset", "required_batch_size_multiple", (0, -1), (1, 8)),
        ("dataset", "batch_size", (0, -1), (1, None)),
        ("dataset", "batch_size_valid", (0, -1), (1, None)),
        ("dataset", "max_tokens", (0, -1), (1, None)),
        ("dataset", "max_tokens_valid", (0, -1), (1, None)),
        ("dataset", "max_valid_steps", (-1,), (0, 5, None)),
        ("common", "log_interval", (0, -1), (1,)),
        ("optimization", "update_freq", ([0], [-2], [1, 0]), ([1], [2, 4])),
        ("optimization", "clip_norm", (math.nan, -1.0), (0.0, 1.0, math.inf)),
        ("optimization", "lr", ([-1.0], [math.nan], [math.inf], [1e-3, -1.0]), ([0.0], [1e30])),
    ],
)
def test_fairseqs_own_options(section, option, wrong, right):
    cfg = OmegaConf.structured(FairseqConfig)
    for value in right:
        cfg[section][option] = value
        check_options(cfg, has_gpu=False)
    for value in wrong:
        cfg[section][option] = value
        with pytest.raises(ValueError, match=f"--{option.replace('_', '-')} must be a .* or more"):
            check_options(cfg, has_gpu=False)


def test_fully_sharded_training_is_not_for_the_plugins_optimizers():
    cfg = OmegaConf.structured(FairseqConfig)
    cfg.distributed_training.ddp_backend = "fully_sharded"
    cfg.optimizer = {"_name": "adam"}
    check_options(cfg, has_gpu=False)
    for name in ("electra_adam", "electra_lamb"):
        cfg.optimizer = {"_name": name}
        with pytest.raises(ValueError, match=f"fully_sharded .* {name}.*legacy_ddp"):
            check_options(cfg, has_gpu=False)


@pytest.mark.parametrize(
    "option",
    [
        "--required-batch-size-multiple=0",
        "--update-freq=-2",
        "--distributed-world-size=0",
        "--best-checkpoint-metric=accuracy",
    ],
)
def test_they_are_refused_before_training(data_bin, tmp_path, option):
    """The first ended the process by a signal, the second in an error about `__len__`, the third
    well without a training, the last in a KeyError after the first validation."""
    status, output = train(data_bin, tmp_path, option)
    name = option.partition("=")[0]
    assert judge(name, status, output) == "clear error"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-tokens", 10), "none of the [0-9]+ sentences fits"),
        (("--criterion", "masked_lm"), "give --criterion electra"),
    ],
)
def test_what_does_not_fit_the_task(data_bin, tmp_path, options, words):
    status, output = train(data_bin, tmp_path, *options)
    assert status == 1
    last = output.strip().splitlines()[-1]
    assert re.match("ValueError: ", last) and re.search(words, last), last


@pytest.mark.parametrize(
    ("arch", "name"), [("roberta_base", "RobertaModel"), ("electra_mlm_tiny", "ElectraMaskedLM")]
)
def test_a_model_that_does_not_fit_the_task(data_bin, tmp_path, arch, name):
    sizes = ("--encoder-layers", 1, "--encoder-embed-dim", 32, "--encoder-attention-heads", 2)
    command = start(
        *("fairseq_cli.train", data_bin, "--user-dir", USER_DIR, "--cpu", "--task", "electra"),
        *("--criterion", "electra", "--arch", arch, *sizes, "--max-positions", 32),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--tokens-per-sample", 32),
        *("--batch-size", 8, "--max-update", 1, "--no-save", "--save-dir", tmp_path),
    )
    assert command.wait(LIMIT) == 1
    last = command.output.strip().splitlines()[-1]
    assert f"ValueError: --task electra cannot train {name}: give --arch electra_small" in last
    assert "masked_lm" in last


def test_a_model_that_has_diverged_is_no_index_error(data_bin, tmp_path):
    """Samples of NaN logits are words all the same; fairseq then sees that the loss is none."""
    _, output = train(data_bin, tmp_path, "--weight-decay=1e30")
    assert DIVERGED in output.strip().splitlines()[-1]
