"""Whole commands on damaged inputs: they end well, or with one line that names the damaged file.

`CASES=300 pytest tests/reliability/test_damaged_inputs.py -s` damages that many for each command
and prints a table. Nothing but what a command is to make is ever made, changed or left over.
"""

import json
import logging
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple

import pytest

from commands import run
from damage import damage_checkpoint, damage_file, damage_json
from fairseq_electra.__main__ import main
from fairseq_electra.conversion.key_map import DISCRIMINATOR, GENERATOR
from fairseq_electra.data.conll import format_conll
from foreign import SHAPES, make_pair, save
from squad_bin import make_squad, make_squad_bin
from squad_bin import make_tokenizer as make_squad_tokenizer
from tagging_bin import make_sentences, make_tag_bin, make_tokenizer
from tf_checkpoint import make_variables, write
from tiny import TINY_OPTIONS, USER_DIR

CASES = int(os.environ.get("CASES", 4))


class Inputs(NamedTuple):
    """A command's inputs and how it is called."""

    make: Callable[[Path], None]  # writes them into a folder
    arguments: List[str]  # of fairseq-electra; {} is the folder, the command makes {}/out
    damaged: List[str]  # patterns of the files that may be damaged


def make_foreign(folder: Path) -> None:
    pytest.importorskip("transformers", reason="needs the extra hf")
    for name, model in zip("dg", make_pair(SHAPES[0]), strict=True):
        save(model, folder / name)
        shutil.rmtree(folder / name / "generation_config.json", ignore_errors=True)


def make_export(folder: Path) -> None:
    """What import-hf makes of a pair, with its tokenizer."""
    make_foreign(folder)
    main(["import-hf", f"{folder}/d", "--generator", f"{folder}/g", f"{folder}/ours"])


def make_foreign_pipeline(folder: Path) -> None:
    """A pair with tokenizer.json, as export-hf writes it."""
    make_export(folder)
    main(["export-hf", f"{folder}/ours/checkpoint.pt", f"{folder}/hf"])


def make_authors_files(folder: Path) -> None:
    pytest.importorskip("tensorflow", reason="needs the extra tf")
    (folder / "tf").mkdir()
    write(folder / "tf", make_variables(DISCRIMINATOR, GENERATOR))


def make_raw_text(folder: Path) -> None:
    words = [f"w{number % 7} w{number % 5} w{number % 3}" for number in range(60)]
    (folder / "raw.txt").write_text("\n".join(words[:30]) + "\n\n" + "\n".join(words[30:]) + "\n")
    (folder / "vocab.txt").write_bytes(make_tokenizer().content)


def make_task_files(folder: Path) -> None:
    (folder / "bin").mkdir()
    make_tokenizer().save(folder / "bin")
    for split in ("train", "valid"):
        lines = [f"{number % 2}\tw{number} w{number % 3}" for number in range(20)]
        (folder / f"{split}.tsv").write_text("\n".join(lines) + "\n")


def make_conll_files(folder: Path) -> None:
    for name in ("bin", "conll"):
        (folder / name).mkdir()
    make_tokenizer().save(folder / "bin")
    (folder / "conll/train.txt").write_text(format_conll(make_sentences(40, seed=1)))


def make_squad_files(folder: Path) -> None:
    (folder / "bin").mkdir()
    make_squad_tokenizer().save(folder / "bin")
    for seed, name in enumerate(("train", "dev")):
        (folder / f"{name}.json").write_text(json.dumps(make_squad(6, seed)))


def train(data: Path, save_dir: Path, task: str, *options) -> None:
    run(
        *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", USER_DIR, "--cpu"),
        *("--task", task, "--criterion", task, "--arch", "electra_tiny", *TINY_OPTIONS),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--max-update", 2, "--batch-size", 8),
        *("--num-workers", 0, "--disable-validation", "--save-dir", save_dir, *options),
    )


def make_pretrained(folder: Path) -> None:
    """A data-bin and a pre-training of two updates."""
    make_raw_text(folder)
    call(INPUTS["prepare_data.sh"], folder)
    (folder / "out").rename(folder / "bin")
    train(folder / "bin", folder / "save", "electra", "--tokens-per-sample", 32)


def make_tagger(folder: Path) -> None:
    make_tag_bin(folder / "bin", train=20, valid=5)
    train(folder / "bin", folder / "save", "electra_tagging", "--tokens-per-sample", 32)
    (folder / "input.txt").write_text(format_conll(make_sentences(5, seed=7)))


def make_answerer(folder: Path) -> None:
    make_squad_bin(folder / "bin", train=20, valid=5, words=4)
    lengths = ("--tokens-per-sample", 32, "--max-query-length", 8, "--doc-stride", 8)
    train(folder / "bin", folder / "save", "electra_answers", *lengths)
    (folder / "input.json").write_text(json.dumps(make_squad(4, 9, words=4)))


def make_classifier(folder: Path) -> None:
    make_task_files(folder)
    call(INPUTS["prepare_task.sh"], folder)
    (folder / "out").rename(folder / "task")
    options = ("--num-classes", 2, "--init-token", 0, "--max-positions", 32)
    train(folder / "task", folder / "save", "sentence_prediction", *options)


def make_roberta(folder: Path) -> None:
    """A data-bin and fairseq's RoBERTa after two updates."""
    make_raw_text(folder)
    call(INPUTS["prepare_data.sh"], folder)
    (folder / "out").rename(folder / "bin")
    run(
        *(sys.executable, "-m", "fairseq_cli.train", folder / "bin", "--user-dir", USER_DIR),
        *("--cpu", "--task", "masked_lm", "--criterion", "masked_lm", "--arch", "roberta_base"),
        *("--encoder-layers", 2, "--encoder-embed-dim", 32, "--encoder-ffn-embed-dim", 48),
        *("--encoder-attention-heads", 4, "--max-positions", 32, "--tokens-per-sample", 16),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--max-update", 2, "--batch-size", 8),
        *("--num-workers", 0, "--disable-validation", "--save-dir", folder / "save"),
    )


CHECKPOINT = "save/checkpoint_last.pt"
INPUTS: Dict[str, Inputs] = {
    "import-hf": Inputs(
        make_foreign,
        ["import-hf", "{}/d", "--generator", "{}/g", "{}/out"],
        ["[dg]/config.json", "[dg]/vocab.txt", "[dg]/model.safetensors"],
    ),
    "import-hf, tokenizer.json": Inputs(
        make_foreign_pipeline,
        ["import-hf", "{}/hf/discriminator", "--generator", "{}/hf/generator", "{}/out"],
        ["hf/*/tokenizer.json", "hf/*/tokenizer_config.json"],
    ),
    "import-tf": Inputs(
        make_authors_files,
        ["import-tf", "{}/tf/model.ckpt", "--vocab", "{}/tf/vocab.txt", "{}/out"],
        ["tf/*"],
    ),
    "export-hf": Inputs(
        make_export,
        ["export-hf", "{}/ours/checkpoint.pt", "--data", "{}/ours", "{}/out"],
        ["ours/*"],
    ),
    "import-roberta": Inputs(
        make_roberta,
        ["import-roberta", "{}/" + CHECKPOINT, "--data", "{}/bin", "{}/out"],
        [CHECKPOINT, "bin/dict.txt", "bin/vocab.txt", "bin/tokenizer_info.json"],
    ),
    "prepare_data.sh": Inputs(
        make_raw_text,
        ["prepare-data", "{}/out", "{}/raw.txt", "--vocab", "{}/vocab.txt", "--workers", "1"],
        ["*.txt"],
    ),
    "prepare_task.sh": Inputs(
        make_task_files,
        ["prepare-task", "{}/out", "{}/bin", "{}"],
        ["bin/*", "*.tsv"],
    ),
    "prepare_tagging.sh": Inputs(
        make_conll_files,
        ["prepare-tagging", "{}/out", "{}/bin", "{}/conll"],
        ["bin/*", "conll/*"],
    ),
    "prepare_squad.sh": Inputs(
        make_squad_files,
        ["prepare-squad", "{}/out", "{}/bin", "{}/train.json", "{}/dev.json"],
        ["bin/*", "*.json"],
    ),
    "predict_tags.py": Inputs(
        make_tagger,
        ["tag", "{}/" + CHECKPOINT, "{}/input.txt", "--data", "{}/bin", "--out", "{}/out"],
        [CHECKPOINT, "input.txt", "bin/dict.txt", "bin/vocab.txt", "bin/*.json", "bin/label/*"],
    ),
    "predict_answers.py": Inputs(
        make_answerer,
        ["answer", "{}/" + CHECKPOINT, "{}/input.json", "--data", "{}/bin", "--out", "{}/out"],
        [CHECKPOINT, "input.json", "bin/dict.txt", "bin/vocab.txt", "bin/tokenizer_info.json"],
    ),
    "predict_sentences.py": Inputs(
        make_classifier,
        ["predict", "{}/" + CHECKPOINT, "{}/task"],
        [CHECKPOINT, "task/*/dict.txt", "task/*/valid.*"],
    ),
    "show_replacements.py": Inputs(
        make_pretrained,
        ["show", "{}/" + CHECKPOINT, "--data", "{}/bin", "--html", "{}/out"],
        [CHECKPOINT, "bin/dict.txt", "bin/valid.*", "bin/vocab.txt", "bin/tokenizer_info.json"],
    ),
}


def call(inputs: Inputs, folder: Path):
    """Run the command in this process."""
    main([argument.format(folder) for argument in inputs.arguments])


def read_files(folder: Path) -> Dict[str, bytes]:
    """All that a folder holds but what the command makes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).parts[0] != "out"
    }


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file's bytes, or what it says."""
    if path.suffix == ".json" and rng.random() < 0.7:
        return damage_json(path, rng)
    if path.suffix == ".pt" and rng.random() < 0.5:
        return damage_checkpoint(path, rng)
    return damage_file(path, rng)


def judge(inputs: Inputs, folder: Path, damaged: Path) -> str:
    """`went well`, `clear error`, or what is bad about it."""
    try:
        call(inputs, folder)
    except SystemExit as stop:
        message = str(stop.code)
        # the file, or the folder of a data-bin that it is in
        own = [path for path in (damaged, *damaged.parents) if folder in path.parents]
        named = any(str(path) in message for path in own)
        return "clear error" if named and "\n" not in message else f"unclear: {message}"
    except BaseException as error:  # whatever else a user would see as a traceback
        return f"traceback: {error!r}"
    return "went well"


@pytest.fixture(scope="module", params=INPUTS)
def whole(request, tmp_path_factory):
    """The command's name, and a folder of its whole inputs."""
    folder = tmp_path_factory.mktemp("whole")
    INPUTS[request.param].make(folder)
    return request.param, folder


@pytest.fixture(autouse=True)
def quiet():
    """As the commands are when they are scripts."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def test_damaged_inputs(whole, tmp_path, capsys):
    name, template = whole
    inputs = INPUTS[name]
    outcomes = Counter()
    bad = []
    folder = tmp_path / "in"
    for case in range(CASES):
        rng = random.Random(f"{name} {case}")
        shutil.copytree(template, folder)
        choices = sorted(path for pattern in inputs.damaged for path in folder.glob(pattern))
        path = rng.choice([path for path in choices if path.is_file() and path.stat().st_size])
        kind = damage(path, rng)
        before = read_files(folder)
        outcome = judge(inputs, folder, path)
        capsys.readouterr()
        where = path.relative_to(folder)
        if read_files(folder) != before or len(list(tmp_path.iterdir())) > 1:
            outcome = f"changed other files, after: {outcome}"
        if outcome != "went well" and (folder / "out").exists():
            outcome = f"left an output, after: {outcome}"
        if outcome not in ("went well", "clear error"):
            bad.append(f"case {case}, {where}, {kind}: {outcome}")
        outcomes[where.name, outcome.split(":")[0]] += 1
        shutil.rmtree(folder)
    with capsys.disabled():
        for key, number in sorted(outcomes.items()):
            print(name, *key, number, sep="\t")
    assert not bad, "\n".join(bad)
    assert any(outcome == "clear error" for _, outcome in outcomes)


def test_whole_inputs_go_well(whole, tmp_path):
    name, template = whole
    shutil.copytree(template, tmp_path / "in")
    call(INPUTS[name], tmp_path / "in")
    assert (tmp_path / "in" / "out").exists() or name == "predict_sentences.py"


def test_nothing_is_written_over(whole, tmp_path):
    """What is at the output's place stays there."""
    name, template = whole
    if name == "predict_sentences.py":
        pytest.skip("writes no file")
    folder = shutil.copytree(template, tmp_path / "in")
    (folder / "out").mkdir()
    (folder / "out" / "mine").write_text("mine")
    with pytest.raises(SystemExit, match="exists"):
        call(INPUTS[name], folder)
    assert [path.name for path in (folder / "out").iterdir()] == ["mine"]
