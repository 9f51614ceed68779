"""`--clm-weight`: the discriminator predicts the original words of what it judges."""

import json
import math
import re

import pytest
import torch

from criterion_step import step
from fairseq_electra.models.electra_config import ElectraConfig, check_config
from fairseq_electra.runs.flops import count_run, parse_args
from tiny import make_batch, make_dictionary

PICKED = ((0, 1, 5), (0, 4, 8), (1, 2, 10))  # row, place and word of make_batch's
SAMPLED = torch.tensor([[9, 8], [4, 4]])  # a wrong and a right one; the last slot is not used


def test_by_hand(build_model):
    model = build_model(clm_weight=0.5)
    loss, log = step(model, sampled_tokens=SAMPLED, disc_weight=7.0)
    corrupted = make_batch()["src_tokens"].clone()
    corrupted[0, 1], corrupted[1, 2] = 9, 4
    features = model.encode(corrupted)[0]
    losses, hits = [], 0
    for row, place, word in PICKED:
        logits = model.mlm_head(features[row, place], model.embeddings.embed_tokens.weight)
        losses.append(-logits.log_softmax(0)[word].item())
        hits += int(logits.argmax() == word)
    assert log["clm_loss"].item() == pytest.approx(sum(losses), rel=1e-5)
    assert log["clm_acc"] == hits and log["clm_npicked"] == 3 and "mlm_loss" not in log
    expected = log["gen_loss"].item() / 3 + 7.0 * log["disc_loss"].item() / 10
    assert loss.item() == pytest.approx(expected + 0.5 * sum(losses) / 3, rel=1e-5)
    size = len(make_dictionary())
    uninformed = 1.5 * math.log(size) + 7.0 * math.log(2)
    assert log["uninformed"] == pytest.approx(10 * uninformed)


def test_what_is_beside_it_is_as_without(build_model):
    """The generator's gradients too, but for the tables that all share."""
    with_it, usual = build_model(clm_weight=1.0), build_model()
    with torch.no_grad():
        for name, parameter in usual.named_parameters():
            parameter.copy_(with_it.get_parameter(name))
    assert usual.discriminator_head.out_proj.weight.any()
    (_, log), (_, plain) = (step(each, sampled_tokens=SAMPLED) for each in (with_it, usual))
    assert log.keys() - plain.keys() == {"clm_loss", "clm_acc", "clm_npicked"}
    for name in ("gen_loss", "disc_loss", "sampled_acc", "disc_histogram"):
        assert torch.equal(torch.as_tensor(log[name]), torch.as_tensor(plain[name])), name
    for name, parameter in usual.named_parameters():
        if name.startswith("generator."):
            assert torch.equal(parameter.grad, with_it.get_parameter(name).grad), name


@pytest.mark.parametrize(("num_updates", "idle"), [(2, "discriminator_head"), (3, None)])
def test_every_parameter_has_a_gradient_after_a_first_stage_too(build_model, num_updates, idle):
    model = build_model(mlm_updates=3, clm_weight=1.0)
    with torch.no_grad():  # an output layer of zeros would stop the gradients of what is below it
        model.discriminator_head.out_proj.weight.fill_(0.1)
    _, log = step(model, num_updates, sampled_tokens=SAMPLED)
    assert (log["mlm_loss"] > 0, log["clm_loss"] > 0) == (idle is not None, idle is None)
    for name, parameter in model.named_parameters():
        if name != "embeddings.embed_token_types.weight":
            used = idle is None or not name.startswith(idle)
            assert bool(parameter.grad.any()) == used, name


def test_a_run_and_its_restart(data_bin, tmp_path, train_electra):
    options = ("--mlm-updates", 3, "--clm-weight", 1)
    output = train_electra(data_bin, tmp_path / "whole", *options).output
    lines = [json.loads(line) for line in re.findall(r"\| train_inner \| (\{.*\})", output)]
    assert [float(line["mlm_loss"]) > 0 for line in lines] == [True] * 3 + [False] * 3
    assert [float(line["clm_loss"]) > 0 for line in lines] == [False] * 3 + [True] * 3
    train_electra(
        data_bin, tmp_path / "parts", *options, "--max-update", 4, "--total-num-update", 6
    )
    train_electra(data_bin, tmp_path / "parts", *options)
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=False)["model"]
        for name in ("whole", "parts")
    )
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name


def test_flops_count_its_head_after_the_first_stage():
    words = "--arch electra_small --vocab-size 1000 --updates 10 --mlm-updates 4 --mask-prob 0.2"
    usual, corrective = (
        count_run(parse_args([*words.split(), "--", "--clm-weight", weight]))
        for weight in ("0", "1")
    )
    head = usual["mlm_parts_per_token"]["discriminator head"]
    assert corrective["parts_per_token"]["discriminator word head"] == head
    assert corrective["per_token"] == usual["per_token"] + head
    assert corrective["mlm_per_token"] == usual["mlm_per_token"]


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf, "1"])
def test_a_weight_that_is_none_is_refused(weight):
    with pytest.raises(ValueError, match="--clm-weight must be a number, 0 or more"):
        check_config(ElectraConfig(clm_weight=weight))


def test_what_cannot_be_with_it_is_named(data_bin, tmp_path, train_electra):
    done = train_electra(data_bin, tmp_path, "--clm-weight", 1, "--disc-weight", 0, check=False)
    assert done.returncode != 0
    assert "--clm-weight corrects what --disc-weight 0 leaves out" in done.output
    with pytest.raises(ValueError, match="--clm-weight cannot be used with --two-tower-generator"):
        check_config(ElectraConfig(clm_weight=1.0, two_tower_generator=True))
