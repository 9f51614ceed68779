"""What only a GPU can show: no synchronisation, the flash kernel, CUDA graphs, half precision.

`GPU_TESTS_DEVICE=cpu pytest -m gpu` tries what a CPU can run of it (check_gpu.sh --device cpu).
"""

import os
import re
import subprocess
import sys

import pytest
import torch
from fairseq.utils import apply_to_sample
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.pick_dataset import PickDataset, max_picks
from fairseq_electra.modules.compiling import GRAPH_MODES
from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from tiny import ROOT, TINY_OPTIONS, USER_DIR, make_dictionary

DEVICE = torch.device(os.environ.get("GPU_TESTS_DEVICE", "cuda"))
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        DEVICE.type == "cuda" and not torch.cuda.is_available(), reason="needs a CUDA device"
    ),
]
on_cuda = pytest.mark.skipif(
    DEVICE.type != "cuda", reason="tried on a CPU, which has no such thing"
)


def make_sample(sentences=8, length=32, shortest=None) -> dict:
    """A batch on the GPU; with `shortest`, of sentences of all lengths from there on."""
    dictionary = make_dictionary()
    generator = torch.Generator().manual_seed(1)
    tokens = []
    for index in range(sentences):
        size = length if shortest is None or index == 0 else shortest + index % (length - shortest)
        words = torch.randint(4, len(dictionary) - 1, (size - 2,), generator=generator)
        tokens.append(
            torch.cat([torch.tensor([dictionary.bos()]), words, torch.tensor([dictionary.eos()])])
        )
    sizes = [len(sentence) for sentence in tokens]
    dataset = PickDataset(tokens, sizes, dictionary, 0.15, max_picks(0.15, length))
    sample = dataset.collater([dataset[index] for index in range(sentences)])
    return apply_to_sample(lambda tensor: tensor.to(DEVICE), sample)


class Task:
    target_dictionary = make_dictionary()


def build_step(build_model, batches=1, **options):
    """A whole update of a model on the GPU over its batch, so many times; returns its loss."""
    model = build_model(**options).to(DEVICE)
    criterion = ElectraCriterion(ElectraCriterionConfig(), Task())
    optimizer = ElectraAdam(ElectraAdamConfig(lr=[1e-3]), model.parameters())

    def step(sample):
        total = 0
        for _ in range(batches):
            loss, sample_size, _ = criterion(model, sample)
            (loss / sample_size).backward()
            total = total + loss.detach()
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


@on_cuda
@pytest.mark.parametrize("shortest", [None, 5])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_an_update_never_waits_for_the_device(build_model, precision, shortest):
    step = build_step(build_model, precision=precision, dropout=0.1)
    sample = make_sample(128, 128, shortest)  # 16 384 tokens: large ones take other kernels
    step(sample)  # the first makes the optimizer's state
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(sample)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@on_cuda
def test_flash_attention_is_enough_without_padding(build_model):
    """Any other kernel would raise here."""
    step = build_step(build_model, precision="bf16", attention_dropout=0.1)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        step(make_sample())


@on_cuda
@pytest.mark.parametrize("batches", [1, 2])  # as --update-freq
@pytest.mark.parametrize("mode", ["default", *GRAPH_MODES])
def test_compiled_updates_are_those_of_the_plain_step(build_model, mode, batches):
    sample = make_sample()
    plain = build_step(build_model, batches)
    compiled = build_step(build_model, batches, compile=mode)
    for _ in range(4):  # CUDA graphs are recorded at the second, replayed from the third on
        torch.testing.assert_close(compiled(sample), plain(sample), rtol=1e-3, atol=1e-2)


@on_cuda
@pytest.mark.parametrize("mode", GRAPH_MODES)
def test_a_validation_among_compiled_updates(build_model, mode):
    """Its losses are those of the plain model, whatever the graphs' memory is used for."""
    sample = make_sample()
    criterion = ElectraCriterion(ElectraCriterionConfig(), Task())
    losses = {}
    for chosen in ("none", mode):
        model = build_model(compile=chosen).to(DEVICE)
        losses[chosen] = []
        for _ in range(3):
            criterion.measure = None  # compiled as this model is
            model.train()
            criterion(model, sample)[0].backward()
            model.eval()
            with torch.no_grad():
                logs = [criterion(model, sample)[2] for _ in range(3)]
            losses[chosen] += [float(log["loss"]) for log in logs]
    assert losses[mode] == pytest.approx(losses["none"], rel=1e-3)


@on_cuda
def test_two_updates_are_those_of_the_cpu(build_model):
    """Corruption included: which words are replaced does not depend on the device."""
    samples = [make_sample(), make_sample(shortest=5)]
    losses = {}
    for device in ("cpu", DEVICE):
        model = build_model().to(device)
        criterion = ElectraCriterion(ElectraCriterionConfig(), Task())
        optimizer = ElectraAdam(ElectraAdamConfig(lr=[1e-3]), model.parameters())
        losses[str(device)] = []
        for sample in samples:
            sample = apply_to_sample(lambda tensor, to=device: tensor.to(to), sample)
            loss, sample_size, _ = criterion(model, sample)
            (loss / sample_size).backward()
            optimizer.clip_grad_norm(1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses[str(device)].append(float(loss) / sample_size)
    assert losses[str(DEVICE)] == pytest.approx(losses["cpu"], rel=1e-4)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_packed_features_are_those_of_padded_ones(build_model, precision):
    """--attention fused leaves padding out of all but attention; reference computes it."""
    sample = make_sample(shortest=5)
    tokens = sample["net_input"]["src_tokens"]
    there = tokens != make_dictionary().pad()
    features = {}
    for attention in ("fused", "reference"):
        model = build_model(attention=attention, precision=precision).to(DEVICE).eval()
        with torch.no_grad():
            features[attention] = model.encode(tokens, features_only=True)[0][there].float()
    tolerance = 1e-4 if precision == "float32" else 5e-2
    torch.testing.assert_close(
        features["fused"], features["reference"], rtol=tolerance, atol=tolerance
    )


def train(data_bin, save_dir, *options) -> str:
    """What fairseq-train prints, in a process that sees the GPU, as those of other tests do not."""
    command = [
        *(sys.executable, "-m", "fairseq_cli.train", data_bin, "--user-dir", USER_DIR),
        *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny"),
        *(*TINY_OPTIONS, "--optimizer", "electra_adam", "--lr", "1e-3", "--clip-norm", 1.0),
        *("--tokens-per-sample", 32, "--batch-size", 8, "--num-workers", 1),
        *("--validate-interval-updates", 5, "--save-dir", save_dir, "--log-interval", 1),
        *("--save-interval-updates", 5, "--log-format", "simple"),
        *(["--cpu"] if DEVICE.type == "cpu" else []),
        *options,
    ]
    done = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


PRECISIONS = {
    "--precision bf16": ("--precision", "bf16"),
    "--bf16": ("--bf16", "--fp16-no-flatten-grads"),
    "--amp": ("--amp",),
    "--fp16": ("--fp16", "--fp16-no-flatten-grads"),
}


@pytest.mark.parametrize(
    "name",
    [name if "precision" in name else pytest.param(name, marks=on_cuda) for name in PRECISIONS],
)
def test_a_short_training_in_half_precision(data_bin, tmp_path, name):
    """Training, validation and checkpoint; the loss falls and no update is lost."""
    output = train(data_bin, tmp_path, *PRECISIONS[name], "--max-update", 20)
    assert "| valid |" in output and (tmp_path / "checkpoint_last.pt").exists()
    assert "overflow" not in output
    losses = [float(loss) for loss in re.findall(r"train_inner .*? loss=([\d.]+)", output)]
    assert len(losses) == 20 and losses[-1] < losses[0]


@on_cuda
def test_a_compiled_training_resumes(data_bin, tmp_path):
    options = ("--precision", "bf16", "--compile", "reduce-overhead", "--update-freq", 2)
    for updates in (10, 20):
        output = train(data_bin, tmp_path, *options, "--max-update", updates)
        assert "| valid |" in output
    assert "Loaded checkpoint" in output


def test_a_resumed_training_ends_with_the_same_weights(data_bin, tmp_path):
    """On a GPU nearly: some of its kernels add in another order each time."""
    for name, updates in (("whole", 8), ("parts", 4), ("parts", 8)):
        output = train(data_bin, tmp_path / name, "--max-update", updates)
    assert "Loaded checkpoint" in output
    begun, whole, parts = (
        torch.load(tmp_path / name, weights_only=True)["model"]
        for name in (
            "parts/checkpoint_1_5.pt",
            "whole/checkpoint_last.pt",
            "parts/checkpoint_last.pt",
        )
    )
    weights = [name for name, tensor in whole.items() if tensor.is_floating_point()]
    for name in weights:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)
    assert any(not torch.allclose(begun[name], whole[name], atol=1e-4) for name in weights)
