"""fairseq-hydra-train with a damaged configuration file: no hang, no crash, nothing saved.

`CASES=60 pytest tests/reliability/test_damaged_config.py -s` damages that many and prints a table.
hydra and fairseq read the file before they import the plugin, so some of their errors name no key
(bytes that are not UTF-8, a `_name` that nobody has); errors that the plugin raises name one.
"""

import copy
import os
import random
import re
from collections import Counter
from pathlib import Path

import yaml

from commands import start
from damage import damage_file, estrange
from tiny import USER_DIR

CASES = int(os.environ.get("CASES", 3))
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


def list_names(config: dict, kind: str) -> set:
    """What an error may call the damaged value: its key, or the option; all keys for bytes."""
    keys = {*config, *(key for section in config.values() for key in section)}
    damaged = {kind.split()[0]} & keys or keys
    return damaged | {f"--{key.replace('_', '-')}" for key in damaged}


def judge(status: int, output: str, names: set, path: Path) -> str:
    """`trained`, `names key or file`, `names none`, or what is bad about it."""
    if status == 0:
        return "trained"
    if status < 0:
        return f"bad: ended by signal {-status}"
    lines = [line for line in output.strip().splitlines() if line.strip()]
    # hydra's own errors have the key above the traceback's end, and last without HYDRA_FULL_ERROR
    error = lines[-6:] + [line for line in lines if "full_key: " in line]
    words = {word for line in error for word in re.split(r"[\s.:,']+", line)}
    if names & words or str(path) in " ".join(error):
        return "names key or file"
    frames = re.findall(r'^  File "(.*)", line', output, re.MULTILINE)
    by_plugin = frames and "/fairseq_electra/" in frames[-1]
    return "bad: the plugin's error names no key" if by_plugin else "names none"


def start_training(folder: Path):
    """fairseq-hydra-train on the folder's mine.yaml; the error's whole traceback is printed."""
    return start(
        *("fairseq_cli.hydra_train", "--config-dir", folder, "--config-name", "mine"),
        *(f"hydra.run.dir={folder}", f"checkpoint.save_dir={folder}/save"),
        HYDRA_FULL_ERROR=1,
    )


def test_the_whole_configuration_trains(data_bin, tmp_path):
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(read_example(data_bin)))
    command = start_training(tmp_path)
    assert command.wait(LIMIT) == 0, command.output[-3000:]


def test_damaged_configurations(data_bin, tmp_path):
    outcomes, bad = Counter(), []
    config = read_example(data_bin)
    for case in range(CASES):
        rng = random.Random(case)
        folder = tmp_path / f"case{case}"
        folder.mkdir()
        path = folder / "mine.yaml"
        if rng.random() < 0.7:
            strange = copy.deepcopy(config)
            kind = estrange(strange, rng)
            path.write_text(yaml.safe_dump(strange))
        else:
            path.write_text(yaml.safe_dump(config))
            kind = damage_file(path, rng)
        command = start_training(folder)
        names = list_names(config, kind)
        outcome = judge(command.wait(LIMIT), command.output, names, path)
        print(case, kind, outcome, sep="\t")
        if outcome.startswith("bad"):
            bad.append(f"case {case}, {kind}: {outcome}: {command.output[-500:]}")
        outcomes[outcome] += 1
        assert not list(folder.glob("save/checkpoint*")) or "no_save" in kind, kind
    print(dict(outcomes))
    assert not bad, "\n".join(bad)
    assert outcomes["names key or file"]
