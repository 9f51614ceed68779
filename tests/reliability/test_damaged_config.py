"""fairseq-hydra-train with a damaged configuration file: no hang, no crash, nothing saved.

`CASES=60 pytest tests/reliability/test_damaged_config.py -s` damages that many and prints a table.
hydra and fairseq read the file before they import the plugin, so some of their errors name no key;
errors that the plugin raises name one.
"""

import copy
import os
import random
from collections import Counter
from pathlib import Path

import yaml

from commands import start
from damage import damage_file, estrange
from tiny import USER_DIR

CASES = int(os.environ.get("CASES", 8))
LIMIT = 120  # seconds for a training of two updates


def read_example(data_bin) -> dict:
    """The example's configuration, made tiny."""
    config = yaml.safe_load((Path(USER_DIR) / "config" / "electra_small.yaml").read_text())
    config["task"].update(data=str(data_bin), tokens_per_sample=32)
    config["common"].update(cpu=True, user_dir=str(USER_DIR), log_interval=1)
    config["dataset"].update(batch_size=4, num_workers=0)
    config["optimization"]["max_update"] = 2
    config["checkpoint"]["no_save"] = True
    config["model"].update(encoder_layers=1, encoder_embed_dim=32, encoder_ffn_embed_dim=48)
    return config


def list_keys(config: dict) -> list:
    """The names of all sections and values, as options have them and as hydra does."""
    keys = [*config, *(key for section in config.values() for key in section)]
    return [*keys, *(f"--{key.replace('_', '-')}" for key in keys)]


def judge(status: int, output: str, keys: list, path: Path) -> str:
    """`trained`, `names key or file`, `names none`, or what is bad about it."""
    if status == 0:
        return "trained"
    if status < 0:
        return f"bad: ended by signal {-status}"
    error = [line for line in output.strip().splitlines() if line.strip()][-6:]
    named = [
        line
        for line in error
        if str(path) in line
        or any(key in line.replace(":", " ").replace(".", " ").split() for key in keys)
    ]
    if not named and "/fairseq_electra/" in "".join(output.splitlines()[-12:]):
        return "bad: the plugin's error names no key"
    return "names key or file" if named else "names none"


def test_damaged_configurations(data_bin, tmp_path):
    outcomes, bad = Counter(), []
    config = read_example(data_bin)
    keys = list_keys(config)
    for case in range(CASES):
        rng = random.Random(case)
        folder = tmp_path / f"case{case}"
        folder.mkdir()
        path = folder / "config.yaml"
        if rng.random() < 0.7:
            strange = copy.deepcopy(config)
            kind = estrange(strange, rng)
            path.write_text(yaml.safe_dump(strange))
        else:
            path.write_text(yaml.safe_dump(config))
            kind = damage_file(path, rng)
        command = start(
            *("fairseq_cli.hydra_train", "--config-dir", folder, "--config-name", "config"),
            *(f"hydra.run.dir={folder}", f"checkpoint.save_dir={folder}/save"),
            HYDRA_FULL_ERROR=1,
        )
        outcome = judge(command.wait(LIMIT), command.output, keys, path)
        print(case, kind, outcome, sep="\t")
        if outcome.startswith("bad"):
            bad.append(f"case {case}, {kind}: {outcome}: {command.output[-500:]}")
        outcomes[outcome] += 1
        assert not list(folder.glob("save/checkpoint*")) or "no_save" in kind, kind
    print(dict(outcomes))
    assert not bad, "\n".join(bad)
    assert outcomes["names key or file"]
