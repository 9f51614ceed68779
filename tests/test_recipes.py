"""Each size's settings, the batch that fits the GPUs, and the fairseq-train command of them."""

import shlex
from dataclasses import fields

import pytest
import yaml
from fairseq import options
from fairseq.models import ARCH_CONFIG_REGISTRY

from fairseq_electra import recipes
from fairseq_electra.__main__ import main
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.recipes import PAPER, SIZES, Machine, find_recipe, fit_batch, read_option
from tiny import ROOT, make_dictionary

CPU = Machine(gpus=0, has_bf16=False, gpu_mb=0, cores=2)


def machine(gpus: int, gpu_mb: int = 80_000, has_bf16: bool = True) -> Machine:
    return Machine(gpus, has_bf16, gpu_mb, cores=8 * gpus)


@pytest.mark.parametrize(
    ("size", "gpus", "gpu_mb", "micro_batch", "wanted"),
    [
        ("small", 0, 0, None, (128, 1)),
        ("base", 0, 0, None, (256, 1)),
        ("small", 1, 80_000, None, (128, 1)),
        ("base", 1, 81_000, None, (32, 8)),  # 63 fit
        ("base", 8, 81_000, None, (32, 1)),
        ("large", 8, 81_000, None, (16, 16)),  # 23 fit
        ("small", 8, 80_000, None, (16, 1)),
        ("small", 1, 2_000, None, (32, 4)),  # 48 fit
        ("base", 2, 16_000, None, (8, 16)),  # 12 fit
        ("large", 8, 40_000, None, (8, 32)),  # 11 fit
        ("small", 2, 80_000, 16, (16, 4)),
    ],
)
def test_the_papers_batch(size, gpus, gpu_mb, micro_batch, wanted):
    batch = fit_batch(PAPER[size], machine(gpus, gpu_mb), micro_batch)
    assert batch == (*wanted, max(1, gpus))
    assert batch.total == PAPER[size].batch


@pytest.mark.parametrize(
    ("gpus", "gpu_mb", "micro_batch", "wanted", "total"),
    [
        (3, 80_000, None, (43, 1), 129),
        (5, 80_000, None, (26, 1), 130),
        (6, 80_000, None, (21, 1), 126),
        (7, 80_000, None, (18, 1), 126),
        (3, 500, None, (11, 4), 132),  # 12 of 43 fit, a prime
        (200, 80_000, None, (1, 1), 200),
        (1, 80_000, 5, (5, 26), 130),
        (1, 80_000, 300, (300, 1), 300),
    ],
)
def test_devices_that_do_not_divide_it(gpus, gpu_mb, micro_batch, wanted, total):
    batch = fit_batch(PAPER["small"], machine(gpus, gpu_mb), micro_batch)
    assert (*batch, batch.total) == (*wanted, gpus, total)


def read_command(text: str) -> dict:
    """The configuration that fairseq-train makes of the words after its name."""
    name, *words = shlex.split(text.replace("\\\n", " "))  # as a shell does
    assert name == "fairseq-train"
    args = options.parse_args_and_arch(options.get_training_parser(), words)
    defaults = {field.name: field.default for field in fields(ElectraConfig)}
    return {**defaults, **vars(args)}  # options of a model that are not given are left out


def print_command(capsys, *words) -> dict:
    main(["recipe", *map(str, words)])
    return read_command(capsys.readouterr().out)


def test_the_papers_table(capsys):
    """Table 6 of the paper; google-research/electra, configure_pretraining, has small's too."""
    table = {
        "small": (12, 256, 1024, 4, 128, 0.25, 128, 128, 5e-4, 1_000_000, 0.15),
        "base": (12, 768, 3072, 12, 768, 1 / 3, 512, 256, 2e-4, 766_000, 0.15),
        "large": (24, 1024, 4096, 16, 1024, 0.25, 512, 2048, 2e-4, 400_000, 0.25),
    }
    for size, row in table.items():
        args = print_command(capsys, size, "--gpus", 8)
        shown = [args[name] for name in SIZES[size]._fields]
        shown += [args[name] for name in ("tokens_per_sample",)]
        shown += [args["batch_size"] * args["update_freq"][0] * 8, args["lr"][0]]
        shown += [args["max_update"], args["mask_prob"]]
        assert tuple(shown) == row
        assert (args["warmup_updates"], args["mlm_updates"]) == (10_000, 0)
        assert (args["precision"], args["distributed_world_size"]) == ("bf16", 8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("model", recipes.MODELS)
@pytest.mark.parametrize("gpus", [0, 3])
def test_fairseq_train_takes_the_command(capsys, size, model, gpus):
    args = print_command(
        *(capsys, size, "--model", model, "--gpus", gpus, "--save-dir", "a folder"),
        *("--", "--seed", 5),
    )
    assert (args["seed"], args["save_dir"], args["cpu"]) == (5, "a folder", gpus == 0)
    assert args["task"] == ("electra" if model == "electra" else "masked_lm")
    assert args["encoder_layers"] == SIZES[size].encoder_layers
    assert args["amp"] == (gpus > 0 and model == "roberta")


@pytest.mark.parametrize("model", recipes.MODELS)
def test_batches_are_of_the_size_that_is_named(capsys, model):
    """fairseq makes them of multiples of 8 sequences where it may."""
    for size, given in ((21, ()), (20, ("--", "--batch-size", 20))):
        args = print_command(capsys, "small", "--model", model, "--gpus", 6, *given)
        assert (args["batch_size"], args["required_batch_size_multiple"]) == (size, 1)


@pytest.mark.parametrize("model", recipes.MODELS)
def test_the_rate_falls_until_the_update_that_is_given(capsys, model):
    words = ("tiny", "--model", model, "--gpus", 0, "--", "--max-update", 70)
    args = print_command(capsys, *words)
    assert args["max_update"] == 70
    if model == "roberta":
        assert float(args["total_num_update"]) == 70
    assert "cost as much" not in capsys.readouterr().err


def test_architectures_have_the_sizes():
    for model in ("electra", "electra_mlm"):
        for name, size in SIZES.items():
            args = type("Args", (), {})()
            ARCH_CONFIG_REGISTRY[f"{model}_{name}"](args)
            assert vars(args) == size._asdict()
    defaults = {field.name: field.default for field in fields(ElectraConfig)}
    assert {name: defaults[name] for name in SIZES["base"]._fields} == SIZES["base"]._asdict()


def test_hydras_configuration_is_small():
    config = yaml.safe_load((ROOT / "fairseq_electra/config/electra_small.yaml").read_text())
    recipe = PAPER["small"]
    assert {name: config["model"][name] for name in SIZES["small"]._fields} == (
        SIZES["small"]._asdict()
    )
    assert config["task"]["tokens_per_sample"] == recipe.tokens
    assert config["dataset"]["batch_size"] == recipe.batch
    assert config["lr_scheduler"]["warmup_updates"] == recipe.warmup
    assert config["optimization"]["lr"] == [recipe.lr]
    assert config["optimization"]["max_update"] == recipe.updates


def test_all_models_have_the_same_policy_of_precision():
    new, old = machine(1), machine(1, has_bf16=False)
    for model in recipes.MODELS:
        assert recipes.precision(CPU, model) == "--cpu"
        assert recipes.precision(old, model) == "--amp"
    assert recipes.precision(new, "electra") == recipes.precision(new, "electra_mlm")
    assert recipes.precision(new, "electra") == "--precision bf16"
    assert recipes.precision(new, "roberta") == "--amp"  # float32 weights too: not --bf16, --fp16


@pytest.mark.parametrize("model", recipes.MODELS)
@pytest.mark.parametrize("option", ["--bf16", "--fp16", "--precision=float32"])
def test_another_precision_takes_its_place(capsys, model, option):
    words = [option] if model != "roberta" or "=" not in option else ["--amp"]
    args = print_command(capsys, "small", "--gpus", 2, "--model", model, "--", *words)
    assert args["precision"] == "float32"
    assert args["amp"] == (words == ["--amp"])


def test_a_budget_of_tiny(capsys):
    hour = print_command(capsys, "tiny", "--gpus", 0, "--budget", "hour")
    assert (hour["max_update"], hour["mlm_updates"], hour["weight_init"]) == (15750, 2000, "local")
    assert (hour["mask_prob"], hour["generator_size"], hour["disc_weight"]) == (0.3, 0.25, 10)
    minutes = print_command(capsys, "tiny", "--gpus", 0)
    assert (hour["clm_weight"], minutes["clm_weight"]) == (1, 0)
    plain = print_command(capsys, "tiny", "--gpus", 0, "--plain", "--", "--max-update", "90")
    assert (plain["max_update"], plain["mlm_updates"], plain["weight_init"]) == (90, 0, "bert")
    shorter = print_command(capsys, "tiny", "--gpus", 0, "--", "--max-update=90")
    assert (shorter["max_update"], shorter["mlm_updates"]) == (90, 30)


def test_a_given_generator_brings_its_size(capsys):
    given = ("--", "--generator-from", "first/checkpoint_last.pt")
    tiny = print_command(capsys, "tiny", "--gpus", 0, *given)
    assert (tiny["generator_size"], tiny["disc_weight"]) == (0.5, 10)  # the arch's, as not given


def test_another_model_costs_as_much(capsys):
    for model in ("roberta", "electra_mlm"):
        words = ("small", "--gpus", 1, "--model", model, "--electra-options", "--max-update 1000 ")
        small = print_command(capsys, *words)["max_update"]
        wide = print_command(capsys, *words[:-1], words[-1] + "--generator-size 1")["max_update"]
        staged = print_command(capsys, *words[:-1], words[-1] + "--mlm-updates 900")["max_update"]
        assert wide > small > 1000
        assert staged != small


def make_sentences(folder, labels):
    """A folder as prepare-task leaves it, as far as the command reads it."""
    import torch
    from fairseq.data import indexed_dataset

    for name in ("input0", "label"):
        (folder / name).mkdir(parents=True)
    make_dictionary(9).save(str(folder / "input0" / "dict.txt"))
    builder = indexed_dataset.make_builder(str(folder / "input0" / "train.bin"), "mmap", 50)
    for _ in range(70):
        builder.add_item(torch.tensor([5, 6, 2]))
    builder.finalize(str(folder / "input0" / "train.idx"))
    (folder / "label" / labels[0]).write_text(labels[1])


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        (("dict.txt", "good 40\nnot so good 20\nbad 10\nmadeupword0000 0\n"), (3, "accuracy")),
        (("train.label", "1.5\n" * 70), (1, "loss")),
    ],
)
def test_fine_tuning_on_sentences(tmp_path, capsys, labels, wanted):
    make_sentences(tmp_path / "task", labels)
    words = ("small", "--gpus", 0, "--finetune", "sentences", "--data", tmp_path / "task")
    args = print_command(capsys, *words)
    assert (args["num_classes"], args["best_checkpoint_metric"]) == wanted
    assert (args["max_update"], args["warmup_updates"], args["batch_size"]) == (9, 0, 32)
    assert (args["lr"], args["layerwise_lr_decay"], args["init_token"]) == ([3e-4], 0.8, 0)
    assert (args["finetune_from_model"], args["separator_token"]) == (None, None)
    (tmp_path / "start.pt").touch()
    roberta = print_command(
        *(capsys, *words, "--model", "roberta", "--epochs", 2, "--checkpoint"),
        *(tmp_path / "start.pt", "--", "--batch-size", 7, "--update-freq", 5),
    )
    assert (roberta["max_update"], roberta["arch"]) == (4, "roberta_layerwise")
    assert (roberta["finetune_from_model"], roberta["separator_token"]) == (
        *(str(tmp_path / "start.pt"), 2),
    )


@pytest.mark.parametrize(("tag", "best"), [("B-NP", "f1"), ("NOUN", "accuracy")])
def test_fine_tuning_on_tags(tmp_path, capsys, tag, best):
    (tmp_path / "label").mkdir()
    (tmp_path / "label" / "dict.txt").write_text(f"O 1\n{tag} 1\n")
    (tmp_path / "train.conll").write_text(f"a {tag}\nb O\n\n" * 33)
    args = print_command(capsys, "base", "--finetune", "tags", "--data", tmp_path)
    assert (args["best_checkpoint_metric"], args["max_update"]) == (best, 6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["huge"], "invalid choice: 'huge'"),
        (["small", "--gpus", "-1"], "--gpus must be"),
        (["small", "--gpus", "x"], "invalid int value"),
        (["small", "--budget", "hour"], "--budget is a choice of tiny"),
        (["small", "--finetune", "tags"], "--finetune needs --data"),
        (["small", "--data", "nowhere"], "no dict.txt in nowhere: make it with"),
        (["small", "--finetune", "tags", "--data", "nowhere"], "no train.conll in nowhere: make"),
        (["small", "--finetune", "answers", "--data", "nowhere"], "no train.json in nowhere: make"),
        (["small", "--finetune", "tags", "--data", ".", "--checkpoint", "x"], "no checkpoint x"),
        (["small", "--", "--max-update", "1e3"], "--max-update must be a whole number"),
        (["small", "--", "--max-update"], "--max-update must be a whole number, 1 or more, not ''"),
    ],
)
def test_what_does_not_fit_is_named(capsys, words, message):
    with pytest.raises(SystemExit) as refused:
        main(["recipe", *words])
    assert message in f"{refused.value.code} {capsys.readouterr().err}"


def test_the_last_of_an_option_counts():
    words = ["--max-update", "3", "--lr", "1", "--max-update=4"]
    assert read_option(words, "--max-update", 9) == 4
    assert read_option(words, "--batch-size", 9) == 9
    assert find_recipe("tiny").mlm_share == 3
