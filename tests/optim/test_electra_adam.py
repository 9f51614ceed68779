"""electra_adam against the authors' optimizer, its implementations against one another."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.optim import FP16Optimizer
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fairseq_electra.optim.electra_adam import (
    ElectraAdam,
    ElectraAdamConfig,
    ReferenceAdam,
    TorchAdam,
)
from fairseq_electra.optim.electra_decay import rate_at

ORACLE = np.load(Path(__file__).parent / "oracle" / "adam_updates.npz")
NAMES = ORACLE["names"].tolist()
UPDATES = len(ORACLE["lr"])
BOTH = pytest.mark.parametrize("impl", ["reference", "torch"])


def make_adam(params, impl="reference", **options):
    return ElectraAdam(ElectraAdamConfig(adam_impl=impl, **{"lr": [1e-3], **options}), params)


def oracle_params():
    return [torch.nn.Parameter(torch.from_numpy(ORACLE[f"var/{n}"][0].copy())) for n in NAMES]


def set_oracle_grads(params, kind, update):
    for name, param in zip(NAMES, params, strict=True):
        param.grad = torch.from_numpy(ORACLE[f"{kind}/{name}"][update].copy())


def largest_error(optimizer, params, update):
    """Largest distance to the oracle after ``update``, in units of the largest value of the array
    it is in: elements next to 0 are differences of larger numbers, without digits of their own."""
    worst = 0.0
    for name, param in zip(NAMES, params, strict=True):
        state = optimizer.optimizer.state[param]
        for ours, theirs in (
            (param.detach(), ORACLE[f"var/{name}"][update + 1]),
            (state["exp_avg"], ORACLE[f"slot/{name}/adam_m"][update]),
            (state["exp_avg_sq"], ORACLE[f"slot/{name}/adam_v"][update]),
        ):
            distance = np.abs(ours.double().numpy() - theirs).max()
            worst = max(worst, distance / np.abs(theirs).max())
    return worst


def test_the_decayed_parameters_are_the_authors():
    params = oracle_params()
    decayed = {id(p) for p in make_adam(params).param_groups[0]["params"]}
    assert [id(p) in decayed for p in params] == ORACLE["decayed"].tolist()


# The reference makes the authors' float32 operations in their order, so not a bit may differ.
# torch's kernel orders them otherwise: a few units of float32's 1.2e-7.
@pytest.mark.parametrize(("impl", "tolerance"), [("reference", 0.0), ("torch", 1e-6)])
def test_follows_the_authors_adam_step_by_step(impl, tolerance):
    params = oracle_params()
    optimizer = make_adam(params, impl)
    for update in range(UPDATES):
        set_oracle_grads(params, "clipped", update)
        optimizer.set_lr(float(ORACLE["lr"][update]))
        optimizer.step()
        assert largest_error(optimizer, params, update) <= tolerance, update


@BOTH
def test_follows_the_authors_with_own_clipping_and_rate(impl):
    params = oracle_params()
    optimizer = make_adam(params, impl)
    clipped = 0
    for update in range(UPDATES):
        set_oracle_grads(params, "grad", update)
        norm = optimizer.clip_grad_norm(1.0)
        assert norm.item() == pytest.approx(float(ORACLE["global_norm_raw"][update]), rel=2e-7)
        clipped += norm.item() > 1
        for name, param in zip(NAMES, params, strict=True):
            expected = torch.from_numpy(ORACLE[f"clipped/{name}"][update])
            rtol = 3e-7 if norm > 1 else 0
            torch.testing.assert_close(param.grad, expected, rtol=rtol, atol=0)
        optimizer.set_lr(rate_at(update, peak=1e-3, warmup=10, total=50))
        optimizer.step()
        assert largest_error(optimizer, params, update) <= 1e-6, update
    assert 0 < clipped < UPDATES


@BOTH
def test_first_update_by_hand(impl):
    matrix, bias = (torch.nn.Parameter(torch.tensor(x)) for x in ([[2.0]], [2.0]))
    optimizer = make_adam([matrix, bias], impl, lr=[0.1], weight_decay=0.5)
    matrix.grad, bias.grad = torch.tensor([[0.25]]), torch.tensor([0.25])
    optimizer.step()
    # m = 0.1 * 0.25, v = 0.001 * 0.25 ** 2, update = m / (sqrt(v) + 1e-6) = 3.161878
    assert bias.item() == pytest.approx(2.0 - 0.1 * 3.161878, rel=1e-6)
    assert matrix.item() == pytest.approx(2.0 - 0.1 * (3.161878 + 0.5 * 2.0), rel=1e-6)


def random_run(params, optimizers, grads, rates):
    """Give every optimizer the same gradients; an entry None is a parameter without one."""
    for update_grads, rate in zip(grads, rates, strict=True):
        for own, optimizer in zip(params, optimizers, strict=True):
            for param, grad in zip(own, update_grads, strict=True):
                param.grad = None if grad is None else grad.clone()
            optimizer.set_lr(rate)
            optimizer.step()


@st.composite
def runs(draw):
    """Initial values, gradients of each update (some None) and learning rates."""
    shape = st.lists(st.integers(1, 20), max_size=3)
    shapes = draw(st.lists(shape, min_size=1, max_size=5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([1e-6, 1e-2, 1.0, 1e3]))
    updates = draw(st.integers(1, 6))
    values = [torch.randn(shape, generator=generator) for shape in shapes]
    grads = [
        [
            scale * torch.randn(shape, generator=generator) if draw(st.booleans()) else None
            for shape in shapes
        ]
        for _ in range(updates)
    ]
    rates = draw(st.lists(st.sampled_from([0.0, 5e-4, 0.1]), min_size=updates, max_size=updates))
    return values, grads, rates


def clone_params(values, device="cpu"):
    return [torch.nn.Parameter(value.clone().to(device)) for value in values]


def assert_same_values(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.detach().cpu(), b.detach().cpu(), rtol=2e-6, atol=2e-6)


@given(run=runs(), bias_correction=st.booleans())
@settings(deadline=None, max_examples=60)
def test_torch_agrees_with_the_reference(run, bias_correction):
    values, grads, rates = run
    params = clone_params(values), clone_params(values)
    optimizers = [
        make_adam(own, impl, adam_bias_correction=bias_correction)
        for own, impl in zip(params, ["reference", "torch"], strict=True)
    ]
    random_run(params, optimizers, grads, rates)
    assert_same_values(*params)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("impl", ["torch", "auto"])
def test_cuda_agrees_with_the_reference(impl):
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator) for shape in [(30, 7), (7,), (512, 64)]]
    grads = [[torch.randn(v.shape, generator=generator) for v in values] for _ in range(5)]
    on_cpu, on_cuda = clone_params(values), clone_params(values, "cuda")
    random_run([on_cpu], [make_adam(on_cpu)], grads, [0.01] * 5)
    grads = [[grad.cuda() for grad in update] for update in grads]
    random_run([on_cuda], [make_adam(on_cuda, impl)], grads, [0.01] * 5)
    assert_same_values(on_cuda, on_cpu)


@pytest.mark.parametrize("betas", [(0.0, 0.0), (0.9, 0.999), (0.99999, 0.9999999)])
def test_torch_is_uncorrected_for_every_beta(betas):
    """The last betas are so close to 1 that a preset count of, say, 2 ** 24 would not do."""
    values = [torch.full((3, 2), 2.0), torch.full((3,), 2.0)]
    params = clone_params(values), clone_params(values)
    optimizers = [
        make_adam(own, impl, adam_betas=betas)
        for own, impl in zip(params, ["reference", "torch"], strict=True)
    ]
    random_run(params, optimizers, [[torch.ones(3, 2), torch.ones(3)]] * 3, [0.01] * 3)
    assert_same_values(*params)


@BOTH
def test_bias_correction_gives_torchs_adamw(impl):
    generator = torch.Generator().manual_seed(1)
    values = [torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)]
    grads = [[torch.randn(v.shape, generator=generator) for v in values] for _ in range(20)]
    ours, theirs = clone_params(values), clone_params(values)
    optimizer = make_adam(ours, impl, adam_bias_correction=True, weight_decay=0.1)
    random_run([ours], [optimizer], grads, [0.01] * 20)
    groups = [{"params": theirs[:1], "weight_decay": 0.1}, {"params": theirs[1:]}]
    adamw = torch.optim.AdamW(groups, lr=0.01, eps=1e-6, weight_decay=0.0)
    for update_grads in grads:
        for param, grad in zip(theirs, update_grads, strict=True):
            param.grad = grad.clone()
        adamw.step()
    assert_same_values(ours, theirs)


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize(("first", "second"), [("torch", "reference"), ("reference", "torch")])
def test_one_implementation_resumes_the_other(first, second, bias_correction):
    generator = torch.Generator().manual_seed(2)
    values = [torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)]
    grads = [[torch.randn(v.shape, generator=generator) for v in values] for _ in range(6)]
    options = {"adam_bias_correction": bias_correction}
    whole, part = clone_params(values), clone_params(values)
    random_run([whole], [make_adam(whole, second, **options)], grads, [0.01] * 6)

    before = make_adam(part, first, **options)
    random_run([part], [before], grads[:3], [0.01] * 3)
    after = make_adam(part, second, **options)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    random_run([part], [after], grads[3:], [0.01] * 3)
    assert_same_values(part, whole)


def apex_state_dict():
    """What Apex's FusedAdam writes after 7 updates of a (2, 1) matrix and a (2,) bias."""
    options = {"lr": 0.01, "bias_correction": False, "betas": (0.9, 0.999), "eps": 1e-6}
    return {
        "state": {
            0: {"exp_avg": torch.full((2, 1), 0.2), "exp_avg_sq": torch.full((2, 1), 0.04)},
            1: {"exp_avg": torch.full((2,), 0.2), "exp_avg_sq": torch.full((2,), 0.04)},
        },
        "param_groups": [
            {**options, "weight_decay": 0.01, "step": 7, "params": [0]},
            {**options, "weight_decay": 0.0, "step": 7, "params": [1]},
        ],
    }


@BOTH
def test_a_state_written_by_apex_is_resumed(impl):
    params = clone_params([torch.ones(2, 1), torch.ones(2)])
    optimizer = make_adam(params, impl)
    optimizer.load_state_dict(apex_state_dict())
    for param in params:
        param.grad = torch.zeros_like(param)
    optimizer.step()
    # Gradient 0: m = 0.9 * 0.2, v = 0.999 * 0.04, update = 0.18 / (0.199900 + 1e-6) = 0.900446
    assert params[1].tolist() == pytest.approx([1 - 0.01 * 0.900446] * 2, rel=1e-6)
    assert params[0].flatten().tolist() == pytest.approx([1 - 0.01 * 0.910446] * 2, rel=1e-6)
    assert [group["step"] for group in optimizer.param_groups] == [8, 8]


@BOTH
def test_the_state_is_laid_out_as_apex_does(impl):
    params = clone_params([torch.ones(2, 1), torch.ones(2)])
    optimizer = make_adam(params, impl)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    ours, apex = optimizer.state_dict(), apex_state_dict()
    assert [set(s) for s in ours["state"].values()] == [set(s) for s in apex["state"].values()]
    assert [set(g) for g in ours["param_groups"]] == [set(g) for g in apex["param_groups"]]


@BOTH
def test_overrides_leave_the_undecayed_without_decay(impl):
    params = clone_params([torch.ones(2, 1), torch.ones(2)])
    optimizer = make_adam(params, impl)
    overrides = {"weight_decay": 0.3, "eps": 1e-8}
    optimizer.load_state_dict(optimizer.state_dict(), optimizer_overrides=overrides)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    assert [group["eps"] for group in optimizer.param_groups] == [1e-8, 1e-8]


def test_the_closure_computes_gradients():
    (param,) = clone_params([torch.tensor([3.0])])
    optimizer = make_adam([param]).optimizer

    def closure():
        loss = param.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 9.0
    assert param.grad.item() == 6.0
    assert param.item() < 3.0


def test_auto_takes_torch_without_apex(no_apex, cuda_params, caplog):
    assert type(make_adam(cuda_params, "auto").optimizer) is TorchAdam
    assert "WARNING" not in caplog.text


def test_auto_takes_torch_beside_another_apex_and_warns(wrong_apex, cuda_params, caplog):
    assert type(make_adam(cuda_params, "auto").optimizer) is TorchAdam
    (warning,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "--adam-impl auto takes torch's kernels" in warning.getMessage()
    assert "the package `apex` on PyPI is another one" in warning.getMessage()


def test_auto_takes_torch_on_the_cpu(fake_apex):
    assert type(make_adam(clone_params([torch.ones(2)]), "auto").optimizer) is TorchAdam


def test_reference_is_taken_by_name(fake_apex, cuda_params):
    assert type(make_adam(cuda_params, "reference").optimizer) is ReferenceAdam


@pytest.mark.parametrize("impl", ["auto", "apex"])
def test_apex_gets_the_groups_and_no_bias_correction(fake_apex, cuda_params, impl):
    optimizer = make_adam(cuda_params, impl, weight_decay=0.05).optimizer
    assert type(optimizer) is fake_apex.FusedAdam
    assert optimizer.config == {
        "lr": 1e-3,
        "betas": (0.9, 0.999),
        "eps": 1e-6,
        "weight_decay": 0.05,
        "bias_correction": False,
    }
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.05, 0.0]
    assert [g["params"][0].ndim for g in optimizer.param_groups] == [2, 1]


def test_apex_asked_for_and_absent(no_apex, cuda_params):
    with pytest.raises(ValueError, match=r"--adam-impl apex .*not installed.* torch or reference"):
        make_adam(cuda_params, "apex")


def test_apex_asked_for_without_cuda(fake_apex):
    with pytest.raises(ValueError, match=r"--adam-impl apex .*not on a CUDA device"):
        make_adam(clone_params([torch.ones(2)]), "apex")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"adam_betas": "(0.9, 2)"}, "--adam-betas"),
        ({"adam_eps": -1e-6}, "--adam-eps"),
        ({"weight_decay": -0.01}, "--weight-decay"),
    ],
)
def test_a_bad_option_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        make_adam(clone_params([torch.ones(2)]), **options)


def test_fairseqs_flat_float16_parameters_are_refused():
    optimizer = make_adam(clone_params([torch.ones(2)]))
    assert not optimizer.supports_flat_params
    assert not optimizer.supports_memory_efficient_fp16


def test_groups_survive_fairseqs_float32_copies():
    """--bf16: fairseq hands float32 copies of the parameters to the optimizer."""
    model = torch.nn.Linear(3, 2).bfloat16()
    cfg = OmegaConf.create(
        {
            "common": {"bf16": True, "fp16_scale_window": 1, "fp16_init_scale": 1},
            "optimizer": {"_name": "electra_adam", "lr": [0.5]},
        }
    )
    wrapper = FP16Optimizer.build_optimizer(cfg, list(model.parameters()))
    assert [p.dtype for p in wrapper.fp32_optimizer.params] == [torch.float32] * 2
    weight = model.weight.detach().float().clone()
    wrapper.backward(model(torch.zeros(1, 3, dtype=torch.bfloat16)).sum())
    wrapper.clip_grad_norm(1.0)
    wrapper.step()
    # The weight's gradient is 0, so it only decays, by 0.01 of the rate.
    torch.testing.assert_close(model.weight.detach().float(), weight * 0.995, rtol=4e-3, atol=0)
    torch.testing.assert_close(
        wrapper.fp32_params[0].detach(), weight - 0.5 * 0.01 * weight, rtol=1e-6, atol=0
    )
