"""--criterion electric: what the step returns, and trainings as a user starts them."""

import json
import re
import shutil

import pytest
import torch

from fairseq_electra.models.electra_config import ElectraConfig, check_config
from tiny_runs import finish, launch

ELECTRIC = ("--criterion", "electric", "--two-tower-generator")


def make_batch():
    """Three picked; the second slot of the second sentence is not used."""
    return {
        "src_tokens": torch.tensor([[0, 5, 6, 7, 8, 2], [0, 9, 8, 7, 2, 1]]),
        "picked": torch.tensor([[1, 3], [2, 0]]),
        "picked_weights": torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        "becomes_mask": torch.ones(2, 2, dtype=torch.bool),
        "uniform": torch.tensor([[0.1, 0.9], [0.4, 1.0]], dtype=torch.float64),
        "has_padding": True,
    }


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_a_step_returns(build_model, precision):
    model = build_model(two_tower_generator=True, precision=precision)
    batch = make_batch()
    tokens = batch["src_tokens"]
    output = model(**batch, sampled_tokens=torch.tensor([[11, 7], [12, 13]]))
    corrupted = torch.tensor([[0, 11, 6, 7, 8, 2], [0, 9, 12, 7, 2, 1]])
    assert torch.equal(output.corrupted_tokens, corrupted)
    assert torch.equal(output.is_replaced, corrupted.ne(tokens))
    assert output.masked_tokens is tokens and output.gen_targets is tokens  # nothing is masked
    with model.autocast(tokens.device):
        logits = model.generator(tokens, None, tokens.eq(1), None, model.embeddings)
    torch.testing.assert_close(output.gen_logits, logits)
    # of the words that the discriminator reads, by the generator that has read the clean ones
    log_q = logits.float().log_softmax(2).gather(2, corrupted[..., None])[..., 0]
    torch.testing.assert_close(output.log_q, log_q.detach())
    assert not output.log_q.requires_grad and output.log_q.dtype == torch.float32
    energies, _ = model(corrupted, features_only=False)
    torch.testing.assert_close(output.disc_logits[0], energies[0])


def test_samples_are_the_generators(build_model):
    """Of 4000 with evenly spaced numbers, each word as often as the generator says."""
    model = build_model(two_tower_generator=True, weight_init="fan-in").eval()
    slots = 4000
    batch = {
        "src_tokens": torch.tensor([[0, 5, 6, 7, 8, 2]]),
        "picked": torch.full((1, slots), 3),
        "picked_weights": torch.ones(1, slots),
        "uniform": (torch.arange(slots, dtype=torch.float64) + 0.5)[None] / slots,
        "has_padding": False,
    }
    with torch.no_grad():
        output = model(**batch)
    shares = torch.bincount(output.sampled_tokens[0], minlength=45) / slots
    torch.testing.assert_close(shares, output.gen_logits[0, 3].softmax(0), atol=1 / slots, rtol=0)


def read_lines(output, kind):
    return [json.loads(line) for line in re.findall(rf"\| {kind} \| (\{{.*\}})", output)]


LONGER = ("--max-update", 30, "--lr", "1e-2", "--mask-prob", 0.3)


def test_losses_fall_and_a_resumed_run_is_the_same(data_bin, tmp_path, train_electra):
    saved = (*ELECTRIC, *LONGER, "--save-interval-updates", 22)
    output = train_electra(data_bin, tmp_path / "whole", *saved).output
    lines = read_lines(output, "train_inner")
    for name, falls_by in (("gen_loss", 0.5), ("disc_loss", 0.5)):
        losses = [float(line[name]) for line in lines]
        assert losses[-1] < losses[0] - falls_by, (name, losses)
    assert all(0.25 < float(line["replaced"]) < 0.35 for line in lines)  # what is picked
    (tmp_path / "parts").mkdir()
    (saved_inside,) = (tmp_path / "whole").glob("checkpoint_*_22.pt")
    shutil.copy(saved_inside, tmp_path / "parts" / "checkpoint_last.pt")
    train_electra(data_bin, tmp_path / "parts", *saved)
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=False)
        for name in ("whole", "parts")
    )
    assert whole["cfg"]["model"]["two_tower_generator"] is True
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, parts["model"][name]), name


@pytest.mark.campaign
def test_two_workers_train_as_one_that_accumulates(data_bin, tmp_path):
    options = (*ELECTRIC, "--max-update", 6, "--batch-size", 4)
    finish(launch(data_bin, tmp_path / "one", (*options, "--update-freq", 2)))
    finish(launch(data_bin, tmp_path / "two", options, workers=2))
    one, two = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"]
        for name in ("one", "two")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.campaign
def test_bf16_and_all_that_is_optional(data_bin, tmp_path, train_electra):
    options = ("--precision", "bf16", "--weight-init", "local", "--embedding-sharing", "none")
    options += ("--checkpoint-activations", "--mask-with-replacement", "--sentence-pairs")
    output = train_electra(data_bin, tmp_path, *ELECTRIC, *options).output
    assert len(read_lines(output, "train_inner")) == 6


@pytest.mark.parametrize("build", [{}, {"embedding_sharing": "none"}])
def test_every_parameter_has_a_gradient(build_model, build):
    """DistributedDataParallel waits for each."""
    model = build_model(two_tower_generator=True, **build)
    output = model(**make_batch())
    losses = output.gen_logits[..., 0].sum() + output.disc_logits.square().sum()
    losses.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--criterion", "electric"), "--criterion electric needs --two-tower-generator"),
        (("--two-tower-generator",), "--two-tower-generator is for --criterion electric alone"),
    ],
)
def test_the_model_and_the_criterion_go_together(
    data_bin, tmp_path, train_electra, options, message
):
    done = train_electra(data_bin, tmp_path, *options, check=False)
    assert done.returncode != 0 and message in done.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlm_updates": 5}, "--two-tower-generator reads no <mask>, which --mlm-updates 5 fills"),
        ({"disallow_correct": True}, "--disallow-correct cannot be used with --two-tower-gener"),
        ({"temperature": 2.0}, "--temperature cannot be used with --two-tower-generator"),
    ],
)
def test_options_that_need_masks_or_other_noise_are_named(options, message):
    check_config(ElectraConfig(**options))
    with pytest.raises(ValueError, match=message):
        check_config(ElectraConfig(two_tower_generator=True, **options))


def test_an_encoder_is_fine_tuned_without_the_towers(build_model):
    state = dict(build_model(two_tower_generator=True).state_dict())
    tuned = build_model(pretrain=False)
    tuned.upgrade_state_dict_named(state, "")
    tuned.load_state_dict(state)
