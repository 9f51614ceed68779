"""`--mlm-updates`: what each stage computes and learns, the switch, what becomes of its head."""

import json
import math
import re
import sys

import pytest
import torch
from fairseq.logging import metrics

from criterion_step import step
from fairseq_electra.criterions.electra import ElectraCriterion
from fairseq_electra.modules.heads import USUAL_LOG_ODDS
from fairseq_electra.optim.layerwise import LayerwiseConfig, depth_of, make_groups
from tiny import TINY_OPTIONS, USER_DIR, make_batch
from tiny_runs import finish, launch

SWITCH = 3
STAGES = ("--mlm-updates", SWITCH, "--weight-init", "local")


def test_the_first_stage_fills_masks_with_both_encoders_by_hand(build_model):
    model = build_model(mlm_updates=SWITCH)
    loss, log = step(model, SWITCH - 1, disc_weight=7.0)
    output = model(**make_batch())
    assert output.masked_tokens.tolist()[0] == [0, model.mask_idx, 6, 7, 8, 2]
    features = model.encode(output.masked_tokens)[0]
    losses = []
    for row, place, word in ((0, 1, 5), (0, 4, 8), (1, 2, 10)):
        logits = model.mlm_head(features[row, place], model.embeddings.embed_tokens.weight)
        losses.append(-logits.log_softmax(0)[word].item())
    assert log["mlm_loss"].item() == pytest.approx(sum(losses), rel=1e-5)
    gen_loss = log["gen_loss"].item()
    expected = (gen_loss + sum(losses)) / 3 + 7.0 * math.log(2)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert log["disc_loss"].item() == pytest.approx(10 * math.log(2))
    assert log["disc_histogram"].sum() == 0


def test_the_second_stage_is_the_usual_one(build_model):
    """The same weights without the option give the same numbers."""
    staged, usual = build_model(mlm_updates=SWITCH), build_model()
    usual.load_state_dict(
        {k: v for k, v in staged.state_dict().items() if not k.startswith("mlm_head")}
    )
    (loss, log), (other, plain) = step(staged, SWITCH), step(usual, SWITCH)
    assert torch.equal(loss, other)
    assert log.keys() == plain.keys() | {"mlm_loss", "mlm_acc", "mlm_npicked"}
    assert log["mlm_loss"] == log["mlm_acc"] == log["mlm_npicked"] == 0
    for name, parameter in usual.named_parameters():
        torch.testing.assert_close(parameter.grad, staged.get_parameter(name).grad, msg=name)


@pytest.mark.parametrize(
    ("num_updates", "idle"), [(SWITCH - 1, "discriminator_head"), (SWITCH, "mlm_head")]
)
def test_every_parameter_has_a_gradient_in_both_stages(build_model, num_updates, idle):
    """DistributedDataParallel waits for each; those of the head that has nothing to do are 0."""
    model = build_model(mlm_updates=SWITCH)
    with torch.no_grad():  # an output layer of zeros would stop the gradients of what is below it
        model.discriminator_head.out_proj.weight.fill_(0.1)
    step(model, num_updates)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name != "embeddings.embed_token_types.weight":
            assert bool(parameter.grad.any()) != name.startswith(idle), name


def test_an_interval_with_both_stages_has_the_first_ones_mean(build_model):
    model = build_model(mlm_updates=SWITCH)
    _, first = step(model, SWITCH - 1)
    _, second = step(model, SWITCH)
    with metrics.aggregate(new_root=True) as aggregator:
        for log in (first, second):
            ElectraCriterion.reduce_metrics([log])
        found = aggregator.get_smoothed_values()
    assert found["mlm_loss"] == pytest.approx(first["mlm_loss"].item() / 3, abs=1e-4)


def test_the_discriminators_head_begins_with_the_usual_odds(build_model):
    model = build_model(mlm_updates=SWITCH)
    model.set_num_updates(SWITCH)
    logits = model(**make_batch()).disc_logits
    assert torch.equal(logits, torch.full_like(logits, USUAL_LOG_ODDS))
    usual = build_model()(**make_batch()).disc_logits
    assert usual.std() > 0


def read_lines(output, kind):
    return [json.loads(line) for line in re.findall(rf"\| {kind} \| (\{{.*\}})", output)]


def test_a_run_shows_both_stages(data_bin, tmp_path, train_electra, run_command):
    output = train_electra(data_bin, tmp_path, *STAGES, "--validate-interval-updates", 3).output
    updates = read_lines(output, "train_inner")
    assert [float(line["mlm_loss"]) > 0 for line in updates] == [True] * 3 + [False] * 3
    assert [float(line["disc_loss"]) == 0.6931 for line in updates] == [True] * 3 + [False] * 3
    first, *_, last = read_lines(output, "valid")
    assert float(first["valid_mlm_loss"]) > 0 and "valid_disc_auc_context" not in first
    assert float(last["valid_disc_auc_context"]) > 0
    assert 0 < float(last["valid_feature_mean"]) < 1 < float(last["valid_feature_dims"])
    meters = torch.load(tmp_path / "checkpoint_last.pt")["extra_state"]["metrics"]["valid"]
    assert max(torch.as_tensor(state.get("sum", 0)).numel() for *_, state in meters) <= 2 * 1024
    # fairseq-validate on the checkpoint says what the run's last validation did
    again = run_command(
        *(
            sys.executable,
            "-m",
            "fairseq_cli.validate",
            data_bin,
            "--user-dir",
            USER_DIR,
            "--cpu",
            "--batch-size",
            8,
        ),
        *("--path", tmp_path / "checkpoint_last.pt", "--task", "electra", "--num-workers", 0),
        *("--tokens-per-sample", 32),
    ).output
    found = re.search(r"disc_auc_context ([\d.]+)", again)
    assert float(found[1]) == pytest.approx(float(last["valid_disc_auc_context"]), abs=1e-3)


@pytest.mark.parametrize(
    "stopped",
    [
        SWITCH,
        *(pytest.param(SWITCH + near, marks=pytest.mark.campaign) for near in (-1, 1)),
    ],
)
def test_a_run_that_is_resumed_around_the_switch_is_the_same(
    data_bin, tmp_path, train_electra, stopped
):
    train_electra(data_bin, tmp_path / "whole", *STAGES)
    short = ("--max-update", stopped, "--total-num-update", 6)
    train_electra(data_bin, tmp_path / "parts", *STAGES, *short)
    train_electra(data_bin, tmp_path / "parts", *STAGES)
    whole, parts = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=False)
        for name in ("whole", "parts")
    )
    for name, tensor in whole["model"].items():
        assert torch.equal(tensor, parts["model"][name]), name
    states = [c["last_optimizer_state"]["state"] for c in (whole, parts)]
    for number, state in states[0].items():
        for name, tensor in state.items():
            assert torch.equal(torch.as_tensor(tensor), torch.as_tensor(states[1][number][name]))


@pytest.mark.campaign
def test_two_workers_train_as_one_that_accumulates(data_bin, tmp_path):
    options = (*STAGES, "--max-update", 6, "--batch-size", 4)
    finish(launch(data_bin, tmp_path / "one", (*options, "--update-freq", 2)))
    finish(launch(data_bin, tmp_path / "two", options, workers=2))
    one, two = (
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=True)["model"]
        for name in ("one", "two")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5, msg=name)


def test_bf16_and_averaged_weights(data_bin, tmp_path, train_electra):
    options = ("--precision", "bf16", "--store-ema", "--ema-decay", 0.9)
    output = train_electra(data_bin, tmp_path, *STAGES, *options).output
    assert len(read_lines(output, "train_inner")) == 6
    averaged = torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)["extra_state"]["ema"]
    assert all(torch.isfinite(tensor.float()).all() for tensor in averaged.values())


def test_the_head_is_dropped_where_it_is_of_no_use(build_model, caplog):
    staged = build_model(mlm_updates=SWITCH)
    for other in (build_model(), build_model(pretrain=False)):
        state = dict(staged.state_dict())
        other.upgrade_state_dict_named(state, "")
        other.load_state_dict(state)
    caplog.clear()
    state = dict(build_model().state_dict())
    staged.upgrade_state_dict_named(state, "")  # pre-trained without the option, goes on with it
    staged.load_state_dict(state)


def test_layerwise_decay_gives_the_head_the_whole_rate(build_model):
    model = build_model(mlm_updates=SWITCH)
    assert {depth_of(parameter) for parameter in model.mlm_head.parameters()} == {0}
    cfg = LayerwiseConfig(layerwise_lr_decay=0.5)
    groups = make_groups(model.parameters(), 0.0, cfg)
    shares = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    assert shares[id(model.mlm_head.bias)] == 1.0
    assert shares[id(model.embeddings.embed_tokens.weight)] == 0.5**3


@pytest.mark.parametrize("value", ["-1", "1.5"])
def test_a_number_of_updates_that_is_none_is_refused(data_bin, tmp_path, train_electra, value):
    done = train_electra(data_bin, tmp_path, "--mlm-updates", value, check=False)
    assert done.returncode != 0 and "--mlm-updates" in done.output.splitlines()[-1]


def test_the_encoder_alone_as_masked_lm_is_fine_tuned_as_electra(
    data_bin, tmp_path, run_command, build_model
):
    output = run_command(
        *(
            sys.executable,
            "-m",
            "fairseq_cli.train",
            data_bin,
            "--user-dir",
            USER_DIR,
            "--cpu",
            "--save-dir",
            tmp_path,
        ),
        *("--task", "masked_lm", "--criterion", "masked_lm", "--arch", "electra_mlm_tiny"),
        *(*TINY_OPTIONS, "--weight-init", "local", "--optimizer", "electra_adam", "--lr", "1e-2"),
        *("--max-update", 40, "--tokens-per-sample", 32, "--batch-size", 8, "--num-workers", 0),
        *("--log-format", "json", "--log-interval", 5),
    ).output
    losses = [float(line["loss"]) for line in read_lines(output, "train_inner")]
    assert losses[-1] < losses[0] - 0.5  # bits
    saved = torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)["model"]
    assert {name.split(".")[0] for name in saved} == {
        *("embeddings", "encoder", "mlm_head", "dictionary_fingerprint")
    }
    tuned = build_model(pretrain=False)
    state = {name: tensor for name, tensor in saved.items() if "fingerprint" not in name}
    tuned.upgrade_state_dict_named(state, "")
    tuned.load_state_dict(state)
