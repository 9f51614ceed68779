"""What only a GPU can show: no synchronisation, the flash kernel, CUDA graphs."""

import pytest
import torch
from fairseq.utils import apply_to_sample
from torch.nn.attention import SDPBackend, sdpa_kernel

from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.pick_dataset import PickDataset, max_picks
from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from tiny import make_dictionary

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def make_sample() -> dict:
    dictionary = make_dictionary()
    tokens = torch.randint(4, len(dictionary) - 1, (8, 32))
    tokens[:, 0], tokens[:, -1] = dictionary.bos(), dictionary.eos()
    dataset = PickDataset(tokens, [32] * 8, dictionary, 0.15, max_picks(0.15, 32))
    sample = dataset.collater([dataset[index] for index in range(8)])
    return apply_to_sample(lambda tensor: tensor.cuda(), sample)


class Task:
    target_dictionary = make_dictionary()


def build_step(build_model, **options):
    """A whole update of a model on the GPU; returns its loss."""
    model = build_model(**options).cuda()
    criterion = ElectraCriterion(ElectraCriterionConfig(), Task())
    optimizer = ElectraAdam(ElectraAdamConfig(lr=[1e-3]), model.parameters())

    def step(sample):
        loss, sample_size, _ = criterion(model, sample)
        (loss / sample_size).backward()
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_an_update_never_waits_for_the_device(build_model, precision):
    step, sample = build_step(build_model, precision=precision, dropout=0.1), make_sample()
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


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_updates_are_those_of_the_plain_step(build_model, mode):
    sample = make_sample()
    plain, compiled = build_step(build_model), build_step(build_model, compile=mode)
    for _ in range(4):  # CUDA graphs are recorded at the second, replayed from the third on
        torch.testing.assert_close(compiled(sample), plain(sample), rtol=1e-3, atol=1e-2)
