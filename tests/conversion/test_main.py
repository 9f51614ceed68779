"""The commands as a user runs them: output, errors on one line, and training that goes on."""

import sys

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra hf")

from transformers import ElectraForMaskedLM, ElectraForPreTraining

from fairseq_electra.conversion.__main__ import main
from fairseq_electra.models.electra import ElectraModel

CONVERT = (sys.executable, "-m", "fairseq_electra.conversion")


@pytest.fixture(scope="module")
def trained(data_bin, train_electra, tmp_path_factory):
    """Checkpoint of six updates, and its two networks for transformers."""
    folder = tmp_path_factory.mktemp("trained")
    train_electra(data_bin, folder)
    checkpoint = folder / "checkpoint_last.pt"
    main(["export-hf", str(checkpoint), str(folder / "hf")])
    return checkpoint, folder / "hf"


def test_a_trained_model_there_and_back_and_on(
    data_bin, trained, train_electra, run_command, tmp_path
):
    """Real commands: export, import, train on; the first loss is that of the same weights."""
    checkpoint, hf = trained
    folders = (hf / "discriminator", "--generator", hf / "generator")
    done = run_command(*CONVERT, "import-hf", *folders, tmp_path / "ours")
    assert done.output.splitlines()[0] == "taken: 64 of the model's 64 tensors"
    assert done.output.splitlines()[-1] == f"wrote {tmp_path / 'ours'}"
    before = torch.load(checkpoint, weights_only=True)["model"]
    after = torch.load(tmp_path / "ours/checkpoint.pt", weights_only=True)["model"]
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    start = ("--max-update", 1, "--restore-file")
    reset = ("--reset-optimizer", "--reset-dataloader", "--reset-meters", "--reset-lr-scheduler")
    one = train_electra(data_bin, tmp_path / "one", *start, tmp_path / "ours/checkpoint.pt")
    two = train_electra(data_bin, tmp_path / "two", *start, checkpoint, *reset)
    assert "Loaded checkpoint" in one.output
    assert first_losses(one.output) == first_losses(two.output)


def first_losses(output):
    """What the first logged update says of the losses."""
    line = next(line for line in output.splitlines() if "| train_inner |" in line)
    assert "gen_loss" in line and "disc_loss" in line
    return [part for part in line.replace("{", ", ").split(", ") if "loss" in part]


def test_transformers_has_nothing_to_complain_of(trained):
    _, hf = trained
    networks = {"discriminator": ElectraForPreTraining, "generator": ElectraForMaskedLM}
    for name, network in networks.items():
        _, info = network.from_pretrained(hf / name, output_loading_info=True)
        assert not any(info.values()), info


def test_fine_tuning_starts_from_an_import(data_bin, trained, run_command, tmp_path):
    """fairseq's sentence_prediction takes the discriminator; its head comes out again."""
    _, hf = trained
    main(["import-hf", str(hf / "discriminator"), str(tmp_path / "ours")])
    data = make_task(data_bin, run_command, tmp_path)
    sizes = ["--encoder-layers", 2, "--encoder-embed-dim", 32, "--encoder-ffn-embed-dim", 64]
    sizes += ["--encoder-attention-heads", 2, "--embedding-size", 16, "--max-positions", 32]
    done = run_command(
        *(sys.executable, "-m", "fairseq_cli.train", data, "--user-dir", "fairseq_electra"),
        *("--task", "sentence_prediction", "--criterion", "sentence_prediction", "--cpu"),
        *("--arch", "electra_tiny", *sizes, "--num-classes", 2, "--init-token", 0),
        *("--optimizer", "electra_adam", "--lr", "1e-3", "--batch-size", 4, "--num-workers", 0),
        *("--max-update", 2, "--save-dir", tmp_path / "tuned"),
        *("--restore-file", tmp_path / "ours/checkpoint.pt"),
    )
    assert "Loaded checkpoint" in done.output
    tuned = tmp_path / "tuned/checkpoint_last.pt"
    main(["export-hf", str(tuned), str(tmp_path / "out")])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sentence_classification_head"]


def make_task(data_bin, run_command, folder):
    """A binarized task of two classes in the words of data_bin."""
    (folder / "text").write_text("w1 w2 w3\nw4 w5\n" * 4)
    (folder / "label").write_text("yes\nno\n" * 4)
    (folder / "labels.txt").write_text("no 1\nyes 1\n")
    dictionaries = {"input0": data_bin / "dict.txt", "label": folder / "labels.txt"}
    for name, dictionary in dictionaries.items():
        source = folder / ("text" if name == "input0" else "label")
        run_command(
            *(sys.executable, "-m", "fairseq_cli.preprocess", "--only-source"),
            *("--trainpref", source, "--validpref", source, "--srcdict", dictionary),
            *("--destdir", folder / "task" / name),
        )
    return folder / "task"


@pytest.mark.parametrize("attribute", ["models", "task"])
def test_from_pretrained(trained, tmp_path, attribute):
    _, hf = trained
    main(["import-hf", str(hf / "discriminator"), str(tmp_path / "ours")])
    hub = ElectraModel.from_pretrained(str(tmp_path / "ours"), checkpoint_file="checkpoint.pt")
    assert getattr(hub, attribute)


def test_an_error_is_one_line(tmp_path, run_command):
    done = run_command(*CONVERT, "export-hf", tmp_path / "none.pt", tmp_path / "out", check=False)
    assert done.returncode == 1
    assert done.output == f"fairseq-electra export-hf: {tmp_path / 'none.pt'}: no such checkpoint\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("limit", [20, 60])  # KiB of a file
@pytest.mark.parametrize("command", ["export-hf", "import-hf"])
def test_a_full_disk_is_named_and_leaves_nothing(trained, tmp_path, run_command, command, limit):
    """As `ulimit -f` imitates it, on which a write fails as on a full disk."""
    checkpoint, hf = trained
    source = checkpoint if command == "export-hf" else hf / "discriminator"
    code = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, [{limit << 10}] * 2)"
    code += "; runpy.run_module('fairseq_electra.conversion', run_name='__main__')"
    out = tmp_path / "out"
    done = run_command(sys.executable, "-c", code, command, source, out, check=False)
    assert done.returncode == 1
    (line,) = done.output.splitlines()
    assert line.startswith(f"fairseq-electra {command}: {out}")
    assert " could not be written: " in line and "File too large" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", ["export-hf", "import-hf", "import-tf", "import-bert", "import-roberta"]
)
def test_help(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert "OUT_DIR" in capsys.readouterr().out
