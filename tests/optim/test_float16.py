"""fairseq's loss scale (--fp16) around the plugin's optimizers: overflow is skipped, then stops."""

import copy
from types import SimpleNamespace

import pytest
import torch
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.optim.fp16_optimizer import FP16Optimizer
from omegaconf import OmegaConf

from fairseq_electra import optim  # noqa: F401  (registers them)
from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.pick_dataset import PickDataset
from tiny import make_dictionary


def build(params, name, **common):
    """fairseq's float16 wrapper over an optimizer, as for `--fp16 --fp16-no-flatten-grads`."""
    cfg = OmegaConf.create(
        {
            "common": {
                "fp16": True,
                "fp16_no_flatten_grads": True,
                "fp16_init_scale": 128,
                "fp16_scale_window": 4,
                "fp16_scale_tolerance": 0.0,
                "threshold_loss_scale": None,
                "min_loss_scale": 1e-4,
                **common,
            },
            "optimizer": {"_name": name, "lr": [0.5]},
            "distributed_training": {"distributed_world_size": 1},
            "optimization": {"update_freq": [1]},
        }
    )
    return FP16Optimizer.build_optimizer(cfg, params)


def update(wrapper, model, factor=1.0):
    """A step on a loss whose gradient is `factor` for every weight; OverflowError as fairseq's."""
    wrapper.zero_grad()
    loss = (model(torch.ones(1, 3, dtype=torch.float16)) * factor).sum()
    wrapper.backward(loss)
    wrapper.multiply_grads(1.0)
    wrapper.clip_grad_norm(1.0)
    wrapper.step()


def snapshot(wrapper, model):
    return copy.deepcopy((wrapper.fp32_optimizer.state_dict(), model.state_dict()))


def assert_unchanged(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        flat, expected = (torch.utils._pytree.tree_leaves(tree) for tree in (one, other))
        for left, right in zip(flat, expected, strict=True):
            assert torch.equal(torch.as_tensor(left), torch.as_tensor(right))


@pytest.mark.parametrize("name", ["electra_adam", "electra_lamb"])
def test_an_overflow_halves_the_scale_and_changes_nothing_else(name):
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2).half()
    wrapper = build(list(model.parameters()), name)
    update(wrapper, model)
    before = snapshot(wrapper, model)
    with pytest.raises(OverflowError, match="setting loss scale to: 64"):
        update(wrapper, model, factor=60_000.0)  # times 128: not a float16
    assert wrapper.scaler.loss_scale == 64
    assert_unchanged(snapshot(wrapper, model), before)
    update(wrapper, model)
    assert not torch.equal(model.weight, before[1]["weight"])


def build_amp(params, name, scale):
    """fairseq's wrapper for --amp, with torch's loss scale for the CPU."""
    common = {"fp16_init_scale": scale, "min_loss_scale": 1e-4}
    cfg = OmegaConf.create({"common": common, "optimizer": {"_name": name, "lr": [0.5]}})
    wrapper = AMPOptimizer.build_optimizer(cfg, params)
    wrapper._grad_scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return wrapper


@pytest.mark.parametrize("name", ["electra_adam", "electra_lamb"])
def test_amp_divides_by_the_scale_once(name):
    gradients = []
    for scale in (1, 1024):
        torch.manual_seed(1)
        model = torch.nn.Linear(3, 2)
        wrapper = build_amp(list(model.parameters()), name, scale)
        wrapper.backward(model(torch.ones(1, 3)).sum())
        norm = wrapper.clip_grad_norm(1.0)
        assert norm.item() == pytest.approx(8**0.5)
        wrapper.step()
        gradients.append([parameter.grad for parameter in model.parameters()])
        assert gradients[-1][0].tolist() == [pytest.approx([8**-0.5] * 3)] * 2
    torch.testing.assert_close(*gradients)


def test_an_overflow_under_amp_changes_nothing_but_the_scale():
    model = torch.nn.Linear(3, 2)
    wrapper = build_amp(list(model.parameters()), "electra_adam", 1024)
    before = model.weight.clone()
    wrapper.backward(model(torch.ones(1, 3)).sum() * float("inf"))
    assert not torch.isfinite(wrapper.clip_grad_norm(1.0))
    wrapper.step()
    assert torch.equal(model.weight, before) and wrapper.scaler.get_scale() == 512


def test_the_scale_does_not_change_the_update():
    models = []
    for scale in (1, 1024):
        torch.manual_seed(1)
        models.append(torch.nn.Linear(3, 2).half())
        wrapper = build(list(models[-1].parameters()), "electra_adam", fp16_init_scale=scale)
        update(wrapper, models[-1])
    assert torch.equal(models[0].weight, models[1].weight)


def test_the_scale_grows_again_after_a_while():
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2).half()
    wrapper = build(list(model.parameters()), "electra_adam")
    for _ in range(6):
        update(wrapper, model)
    assert wrapper.scaler.loss_scale > 128


def test_a_loss_that_always_overflows_stops_the_run():
    """From 128 to 2^-10, --min-loss-scale, it is 16 overflows; the 17th would go below."""
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2).half()
    wrapper = build(list(model.parameters()), "electra_adam", min_loss_scale=2.0**-10)
    for _ in range(16):
        with pytest.raises(OverflowError):
            update(wrapper, model, factor=float("inf"))
    with pytest.raises(FloatingPointError, match="Minimum loss scale reached"):
        update(wrapper, model, factor=float("inf"))


@pytest.mark.parametrize("name", ["electra_adam", "electra_lamb"])
def test_groups_and_state_are_resumed(name):
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2).half()
    wrapper = build(list(model.parameters()), name)
    for _ in range(2):
        update(wrapper, model)
    again = torch.nn.Linear(3, 2).half()
    again.load_state_dict(model.state_dict())
    resumed = build(list(again.parameters()), name)
    resumed.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert resumed.scaler.loss_scale == wrapper.scaler.loss_scale
    states = resumed.fp32_optimizer.state_dict(), wrapper.fp32_optimizer.state_dict()
    assert_unchanged([states[0]], [states[1]])
    # fairseq saves float16 weights and makes the float32 ones of them again: not the same bits
    for one, other in ((wrapper, model), (resumed, again)):
        update(one, other)
    torch.testing.assert_close(model.weight, again.weight, rtol=2e-3, atol=0)


@pytest.mark.parametrize("tokens", [512, 4096])
def test_pre_training_starts_at_once(build_model, tokens):
    """The first gradients fit float16 at fairseq's first scale, at the paper's weights."""
    sentences = torch.randint(4, 44, (tokens // 128, 128))
    dataset = PickDataset(list(sentences), [128] * len(sentences), make_dictionary(), 0.15, 128)
    batch = dataset.collater([dataset[index] for index in range(len(sentences))])
    task = SimpleNamespace(target_dictionary=make_dictionary())
    criterion = ElectraCriterion(ElectraCriterionConfig(), task)

    plain = build_model(max_positions=128)
    loss, sample_size, _ = criterion(plain, batch)
    (loss / sample_size).backward()
    gradients = [p.grad.flatten() for p in plain.parameters() if p.grad is not None]
    norm = torch.cat(gradients).norm()

    model = build_model(max_positions=128).half()
    wrapper = build(list(model.parameters()), "electra_adam")
    wrapper.zero_grad()
    loss, sample_size, _ = criterion(model, batch)
    wrapper.backward(loss)
    wrapper.multiply_grads(1 / sample_size)
    assert wrapper.clip_grad_norm(1.0).item() == pytest.approx(norm.item(), rel=0.05)
    assert wrapper.scaler.loss_scale == 128
