"""What only a GPU can show: no synchronisation, the flash kernel, CUDA graphs."""

import sys

import pytest
import torch
from fairseq.utils import apply_to_sample
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.pick_dataset import PickDataset, max_picks
from fairseq_electra.modules.compiling import GRAPH_MODES
from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from tiny import TINY_OPTIONS, USER_DIR, make_dictionary

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


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
    return apply_to_sample(lambda tensor: tensor.cuda(), sample)


class Task:
    target_dictionary = make_dictionary()


def build_step(build_model, batches=1, **options):
    """A whole update of a model on the GPU over its batch, so many times; returns its loss."""
    model = build_model(**options).cuda()
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


def test_flash_attention_is_enough_without_padding(build_model):
    """Any other kernel would raise here."""
    step = build_step(build_model, precision="bf16", attention_dropout=0.1)
    with sdpa_kernel([SDPBackend.FLASH_ATTENTION]):
        step(make_sample())


@pytest.mark.parametrize("batches", [1, 2])  # as --update-freq
@pytest.mark.parametrize("mode", ["default", *GRAPH_MODES])
def test_compiled_updates_are_those_of_the_plain_step(build_model, mode, batches):
    sample = make_sample()
    plain = build_step(build_model, batches)
    compiled = build_step(build_model, batches, compile=mode)
    for _ in range(4):  # CUDA graphs are recorded at the second, replayed from the third on
        torch.testing.assert_close(compiled(sample), plain(sample), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("mode", GRAPH_MODES)
def test_a_validation_among_compiled_updates(build_model, mode):
    """Its losses are those of the plain model, whatever the graphs' memory is used for."""
    sample = make_sample()
    criterion = ElectraCriterion(ElectraCriterionConfig(), Task())
    losses = {}
    for chosen in ("none", mode):
        model = build_model(compile=chosen).cuda()
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


@pytest.mark.parametrize("options", [(), ("--compile", "reduce-overhead", "--update-freq", "2")])
def test_fairseq_train_on_a_gpu(run_command, data_bin, tmp_path, options):
    """Training, validation, checkpoint and resuming, in bf16."""
    for updates in (10, 20):
        output = run_command(
            *(sys.executable, "-m", "fairseq_cli.train", data_bin, "--user-dir", USER_DIR),
            *("--task", "electra", "--criterion", "electra", "--arch", "electra_tiny"),
            *(*TINY_OPTIONS, "--optimizer", "electra_adam", "--lr", "1e-3", "--clip-norm", 1.0),
            *("--tokens-per-sample", 32, "--batch-size", 8, "--num-workers", 1),
            *("--validate-interval-updates", 5, "--precision", "bf16", "--save-dir", tmp_path),
            *("--max-update", updates, *options),
        ).output
        assert "| valid |" in output
    assert "Loaded checkpoint" in output
