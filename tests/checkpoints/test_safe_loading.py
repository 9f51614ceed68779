"""Checkpoints that try to create a file are refused, by name, wherever they are given."""

import io
import json
import os
import shutil
import sys
import tarfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import file_utils
from fairseq.checkpoint_utils import (
    load_checkpoint_to_cpu,
    load_model_ensemble_and_task,
    torch_persistent_save,
)
from fairseq.logging import metrics
from fairseq.logging.meters import MetersDict

from fairseq_electra.__main__ import main
from fairseq_electra.checkpoints.safe_loading import RefusedCheckpointError, load_file
from fairseq_electra.conversion.__main__ import main as convert
from fairseq_electra.hub import predict_sentences
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.runs import show_replacements
from foreign import SHAPES, edit_config, make_pair
from foreign import save as save_foreign
from squad_bin import make_squad
from tiny import ROOT, TINY_OPTIONS, USER_DIR


class Trap:
    """Pickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def touch(path):
    return f"open({str(path)!r}, 'w')"


TRAPS = {
    "system": lambda path: Trap(os.system, f"touch {path}"),
    "eval": lambda path: Trap(eval, touch(path)),
    "exec": lambda path: Trap(exec, touch(path)),
    "open": lambda path: Trap(open, str(path), "w"),
    "getattr": lambda path: Trap(Path.touch, Path(path)),
}


@pytest.fixture(scope="module")
def trained(data_bin, train_electra, tmp_path_factory):
    """A checkpoint of two updates."""
    folder = tmp_path_factory.mktemp("trained")
    train_electra(data_bin, folder, "--max-update", 2, "--disable-validation")
    return folder / "checkpoint_last.pt"


@pytest.fixture
def marker(tmp_path):
    """A file that must not appear."""
    path = tmp_path / "made"
    yield path
    assert not path.exists()


@pytest.fixture
def save_changed(trained, tmp_path):
    """A function that saves the trained checkpoint, changed, in a folder of its own."""

    def save(change, **options):
        state = torch.load(trained, weights_only=True)
        change(state)
        (tmp_path / "save").mkdir(exist_ok=True)
        torch.save(state, tmp_path / "save" / "checkpoint_last.pt", **options)
        return tmp_path / "save" / "checkpoint_last.pt"

    return save


PLACES = {
    "top": lambda state, trap: state.update(more=trap),
    "cfg": lambda state, trap: state["cfg"]["model"].update(more=trap),
    "optimizer": lambda state, trap: state["last_optimizer_state"].update(more=trap),
    "extra_state": lambda state, trap: state["extra_state"].update(best=[trap]),
    "tensors": lambda state, trap: state["model"].update(more=trap),
    "namespace": lambda state, trap: state.update(args=Namespace(arch=trap)),
}


@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", TRAPS)
def test_calls_are_refused_by_name(save_changed, marker, monkeypatch, kind, place, is_zip):
    """Also if the environment turns torch's protection off."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path = save_changed(
        lambda state: PLACES[place](state, TRAPS[kind](marker)),
        _use_new_zipfile_serialization=is_zip,
    )
    with pytest.raises(RefusedCheckpointError, match=rf"checkpoint_last\.pt .*asks for .*{kind}"):
        load_checkpoint_to_cpu(str(path))


def test_the_traps_work(tmp_path):
    """Each would have created its file."""
    for kind in TRAPS:
        torch.save(TRAPS[kind](tmp_path / kind), tmp_path / "t.pt")
        torch.load(tmp_path / "t.pt", weights_only=False)
        assert (tmp_path / kind).exists()


def test_other_formats_that_run_code_are_refused(tmp_path):
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "jit.pt"))
    with tarfile.open(tmp_path / "old.pt", "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("storages", "tensors", "pickle"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    for name, reason in (("jit", "TorchScript"), ("old", "tar format")):
        with pytest.raises(RefusedCheckpointError, match=reason):
            load_checkpoint_to_cpu(str(tmp_path / f"{name}.pt"))


def says_why(output):
    """The explanation is the last thing printed, and torch's advice to allow all is nowhere."""
    last = output.strip().splitlines()[-1]
    assert "was not loaded, and nothing in it was run" in last, output[-2000:]
    assert "posix.system" in last
    assert "weights_only" not in last


@pytest.mark.parametrize("given", ["resume", "--restore-file", "fine-tune", "validate"])
def test_fairseq_commands(
    save_changed, marker, data_bin, tmp_path, train_electra, run_command, given
):
    path = save_changed(lambda state: state.update(more=TRAPS["system"](marker)))
    before = path.read_bytes()
    if given == "validate":
        done = run_command(
            *(sys.executable, "-m", "fairseq_cli.validate", data_bin, "--user-dir", USER_DIR),
            *("--cpu", "--task", "electra", "--criterion", "electra", "--path", path),
            *("--valid-subset", "valid", "--batch-size", 8),
            check=False,
        )
    elif given == "resume":
        done = train_electra(data_bin, path.parent, check=False)
    elif given == "fine-tune":
        for name in ("input0", "label"):
            (tmp_path / "bin" / name).mkdir(parents=True)
            shutil.copy(data_bin / "dict.txt", tmp_path / "bin" / name)
        done = run_command(
            *(sys.executable, "-m", "fairseq_cli.train", tmp_path / "bin", "--user-dir", USER_DIR),
            *("--cpu", "--task", "sentence_prediction", "--criterion", "sentence_prediction"),
            *("--arch", "electra_tiny", *TINY_OPTIONS, "--num-classes", 40, "--batch-size", 8),
            *("--optimizer", "electra_adam", "--lr", 1e-3, "--disable-validation"),
            *("--save-dir", tmp_path / "other", "--finetune-from-model", path),
            check=False,
        )
    else:
        done = train_electra(data_bin, tmp_path / "other", given, path, check=False)
    assert done.returncode != 0
    says_why(done.output)
    assert path.read_bytes() == before
    assert not list((tmp_path / "other").glob("*.pt"))


@pytest.mark.parametrize("command", ["export-hf", "import-roberta"])
def test_conversions(save_changed, marker, tmp_path, capsys, command):
    path = save_changed(lambda state: state.update(more=TRAPS["system"](marker)))
    with pytest.raises(SystemExit) as stopped:
        convert([command, str(path), str(tmp_path / "out")])
    says_why(f"{stopped.value}\n{capsys.readouterr().err}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["tag", "answer"])
def test_predictions(save_changed, marker, tmp_path, capsys, command):
    """The checkpoint is read after the input, which is whole."""
    path = save_changed(lambda state: state.update(more=TRAPS["system"](marker)))
    (tmp_path / "input").write_text(
        json.dumps(make_squad(1, 1)) if command == "answer" else "w1 O\n"
    )
    with pytest.raises(SystemExit) as stopped:
        main([command, str(path), str(tmp_path / "input"), "--out", str(tmp_path / "out")])
    says_why(f"{stopped.value}\n{capsys.readouterr().err}")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_hugging_face(marker, tmp_path):
    """A pickle of weights is not opened; code that its configurations name is not imported."""
    pytest.importorskip("transformers", reason="needs the extra hf")
    folder = save_foreign(make_pair(SHAPES[0])[0], tmp_path / "hf")
    classes = {"AutoModel": "modeling.Model", "AutoTokenizer": ["modeling.Model", None]}
    edit_config(folder, auto_map=classes, custom_pipelines={"x": {"impl": "modeling.Model"}})
    tokenizer = {"tokenizer_class": "Model", "auto_map": classes, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    for name in ("modeling.py", "__init__.py", "setup.py"):
        (folder / name).write_text(touch(marker))
    torch.save(TRAPS["system"](marker), folder / "pytorch_model.bin")
    convert(["import-hf", str(folder), str(tmp_path / "ours")])
    assert (tmp_path / "ours" / "checkpoint.pt").is_file()
    (folder / "model.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"pytorch_model\.bin is not read"):
        convert(["import-hf", str(folder), str(tmp_path / "again")])
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")  # a pickle of that name
    with pytest.raises(SystemExit, match=r"model\.safetensors is damaged"):
        convert(["import-hf", str(folder), str(tmp_path / "again")])


def test_scripts_and_the_hub(save_changed, marker):
    path = save_changed(lambda state: state.update(more=TRAPS["system"](marker)))
    for load in (
        lambda: show_replacements.load_state(path, None),
        lambda: predict_sentences.load_predictor(path, None),
        lambda: ElectraModel.from_pretrained(str(path.parent), checkpoint_file=path.name),
        lambda: load_model_ensemble_and_task([str(path)]),
    ):
        with pytest.raises(RefusedCheckpointError, match=r"posix\.system"):
            load()


def write_user_dir(folder, marker):
    (folder / "tasks").mkdir(parents=True)
    for name in ("__init__.py", "tasks/__init__.py", "tasks/electra.py", "hubconf.py"):
        (folder / name).write_text(touch(marker))


def test_a_checkpoint_s_user_dir_is_not_imported(
    save_changed, marker, data_bin, tmp_path, train_electra, run_command
):
    write_user_dir(tmp_path / "brought_along", marker)
    path = save_changed(
        lambda state: state["cfg"]["common"].update(user_dir=str(tmp_path / "brought_along"))
    )
    ElectraModel.from_pretrained(
        str(path.parent), checkpoint_file=path.name, data_name_or_path=str(data_bin)
    )
    run_command(
        *(sys.executable, "-m", "fairseq_cli.validate", data_bin, "--user-dir", USER_DIR),
        *("--cpu", "--task", "electra", "--criterion", "electra", "--path", path),
        *("--valid-subset", "valid", "--batch-size", 8),
    )
    train_electra(data_bin, path.parent, "--max-update", 3, "--disable-validation")


@pytest.mark.parametrize(
    ("section", "options"),
    [
        ("model", {"_name": "wav2vec2", "conv_feature_layers": "CODE"}),
        ("model", {"_name": "", "arch": "fconv", "encoder_layers": "CODE"}),
        ("model", {"_name": "roberta", "encoder_xformers_att_config": "CODE"}),
        ("model", {"_name": "roberta", "encoder": {"xformers_att_config": "CODE"}}),
        ("model", {"_name": "${task.tail}"}),
        ("model", {"_name": "of another plugin"}),
        ("task", {"task": "speech_to_text"}),
        ("criterion", {"_name": "ctc", "wer_args": "CODE"}),
    ],
)
def test_options_that_fairseq_evaluates_are_refused(save_changed, marker, section, options):
    def change(state):
        state["cfg"][section].update(
            {key: touch(marker) if value == "CODE" else value for key, value in options.items()}
        )

    with pytest.raises(RefusedCheckpointError, match="can run code by its options"):
        load_model_ensemble_and_task([str(save_changed(change))])


@pytest.mark.parametrize(
    "args", [{"arch": "fconv"}, {"arch": "roberta", "task": "translation_lev"}]
)
def test_old_checkpoints_are_checked_too(save_changed, args):
    def change(state):
        state.update(args=Namespace(**args))

    with pytest.raises(RefusedCheckpointError, match="names the"):
        load_checkpoint_to_cpu(str(save_changed(change)))


def test_a_model_under_its_name_is_checked(save_changed, marker):
    def change(state):
        state["cfg"]["model"] = {"wav2vec2": {"conv_feature_layers": touch(marker)}}

    with pytest.raises(RefusedCheckpointError, match="model wav2vec2"):
        load_model_ensemble_and_task([str(save_changed(change))])


def test_numpy_numbers_load_as_they_are(save_changed):
    """sentence_prediction's F1 is one, and becomes the best value of a checkpoint."""
    numbers = [np.float64(0.1), np.float32(-2.5), np.int64(-7), np.bool_(True)]
    path = save_changed(lambda state: state["extra_state"].update(best=numbers))
    loaded = load_checkpoint_to_cpu(str(path))["extra_state"]["best"]
    assert loaded == numbers
    assert [value.dtype for value in loaded] == [value.dtype for value in numbers]


def test_objects_within_numpy_are_refused(save_changed):
    path = save_changed(lambda state: state.update(more=np.array([None], dtype=object)))
    with pytest.raises(RefusedCheckpointError, match="numpy"):
        load_checkpoint_to_cpu(str(path))


def test_what_fairseq_train_writes_is_loaded(data_bin, tmp_path, train_electra):
    options = ("--best-checkpoint-metric", "disc_auc", "--maximize-best-checkpoint-metric")
    options += ("--optimizer", "adam", "--lr-scheduler", "inverse_sqrt")
    train_electra(data_bin, tmp_path, "--max-update", 2, *options)
    again = train_electra(data_bin, tmp_path, "--max-update", 3, *options)
    assert "Loaded checkpoint" in again.output


def test_a_run_goes_on_from_its_own_whatever_it_trains(data_bin, tmp_path, run_command):
    """A model of fairseq's that no other checkpoint may name."""
    command = (
        *(sys.executable, "-m", "fairseq_cli.train", data_bin, "--user-dir", USER_DIR, "--cpu"),
        *("--task", "language_modeling", "--arch", "transformer_lm", "--decoder-layers", 1),
        *("--decoder-embed-dim", 8, "--decoder-ffn-embed-dim", 8, "--decoder-attention-heads", 1),
        *("--tokens-per-sample", 16, "--batch-size", 8, "--optimizer", "adam", "--lr", 1e-3),
        *("--disable-validation", "--save-dir", tmp_path, "--max-update"),
    )
    run_command(*command, 1)
    assert "Loaded checkpoint" in run_command(*command, 2).output
    with pytest.raises(RefusedCheckpointError, match=r"transformer_lm|language_modeling"):
        load_checkpoint_to_cpu(str(tmp_path / "checkpoint_last.pt"))


def test_metrics_in_arrays_are_saved_as_what_is_loaded(tmp_path):
    """As those of --eval-bleu; what is counted later adds to them."""
    with metrics.aggregate("valid", new_root=True) as kept:
        metrics.log_scalar("_bleu_counts", np.array([3, 2]))
        metrics.log_scalar("loss", 0.5)
    state = {"extra_state": {"metrics": {"valid": kept.state_dict()}}, "model": {}}
    torch_persistent_save(state, str(tmp_path / "checkpoint.pt"))
    loaded = load_file(tmp_path / "checkpoint.pt")["extra_state"]["metrics"]
    meters = MetersDict()
    meters.load_state_dict(loaded["valid"])
    meters["_bleu_counts"].update(np.array([1, 1]))
    assert meters["_bleu_counts"].sum.tolist() == [4, 3] and meters["loss"].avg == 0.5


@pytest.fixture
def packed(tmp_path):
    """A model's archive with a file that would lie outside of its folder."""
    (tmp_path / "packed").mkdir()
    with tarfile.open(tmp_path / "packed" / "model.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("model/../../made"), io.BytesIO())
    return str(tmp_path / "packed" / "model.tar.gz")


def test_a_model_archive_cannot_write_elsewhere(packed):
    # a Python without the filter cannot unpack any, see the next test
    refusal = getattr(tarfile, "OutsideDestinationError", ValueError)
    with pytest.raises(refusal):
        file_utils.load_archive_file(packed)


def test_an_old_python_unpacks_no_archive(packed, monkeypatch):
    """As Debian 12's 3.11.2, which has no filter."""
    monkeypatch.delattr(tarfile, "data_filter", raising=False)
    with pytest.raises(ValueError, match=r"cannot unpack an archive .* give the folder, or use"):
        file_utils.load_archive_file(packed)


def test_nothing_else_unpickles():
    """Every other way to run what a file says, in all that is installed or called as a script."""
    sources = [*ROOT.glob("fairseq_electra/**/*.py"), *ROOT.glob("scripts/**/*.py")]
    for source in sources:
        text = source.read_text()
        for call in ("pickle.load", "yaml.load", " = eval(", " exec(", "allow_pickle"):
            assert call not in text, source
        if source.name != "safe_loading.py":
            assert "torch.load(" not in text.replace("`torch.load(", ""), source
