"""electra_lamb: torch's implementation by hand and by the paper, Apex's over a stand-in."""

import math

import pytest
import torch

from fairseq_electra.optim.electra_lamb import (
    ElectraLamb,
    ElectraLambConfig,
    TorchLamb,
    trust_ratios,
)


def make_lamb(params, **options):
    return ElectraLamb(ElectraLambConfig(**{"lr": [2e-3], **options}), params)


def test_fused_lamb_gets_groups_and_options(fake_apex, cuda_params):
    optimizer = make_lamb(cuda_params, lamb_betas="(0.9, 0.98)").optimizer
    assert type(optimizer) is fake_apex.FusedLAMB
    assert optimizer.config == {
        "lr": 2e-3,
        "betas": (0.9, 0.98),
        "eps": 1e-6,
        "weight_decay": 0.01,
        "bias_correction": False,
        "max_grad_norm": math.inf,
    }
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0]
    assert [g["params"][0].ndim for g in optimizer.param_groups] == [2, 1]


def test_bias_correction_is_passed_on(fake_apex, cuda_params):
    assert make_lamb(cuda_params, lamb_bias_correction=True).optimizer.config["bias_correction"]


def test_a_state_written_by_torch_keeps_what_apex_alone_reads(fake_apex, cuda_params):
    """Its step() looks up `grad_averaging` in each group."""
    written = make_lamb(cuda_params, lamb_impl="torch", lr=[0.5]).state_dict()
    assert "grad_averaging" not in written["param_groups"][0]
    optimizer = make_lamb(cuda_params)
    optimizer.load_state_dict(written)
    for group in optimizer.param_groups:
        assert group["lr"] == 0.5
        assert group["grad_averaging"] and group["max_grad_norm"] == math.inf


def test_overrides_leave_the_undecayed_without_decay(fake_apex, cuda_params):
    optimizer = make_lamb(cuda_params)
    optimizer.load_state_dict(optimizer.state_dict(), optimizer_overrides={"weight_decay": 0.3})
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]


def test_clips_as_electra_adam_does(fake_apex, cuda_params):
    optimizer = make_lamb(cuda_params)
    cuda_params[0].grad = torch.full((2, 3), 2.0)
    assert optimizer.clip_grad_norm(1.0).item() == pytest.approx(math.sqrt(24))
    assert optimizer.clip_grad_norm(0).item() == pytest.approx(1.0)


def test_flat_parameters_are_refused(fake_apex, cuda_params):
    assert not make_lamb(cuda_params).supports_flat_params


def test_auto_takes_torch_without_apex(no_apex, cuda_params):
    assert type(make_lamb(cuda_params).optimizer) is TorchLamb


def test_auto_takes_torch_beside_another_apex(wrong_apex, cuda_params):
    assert type(make_lamb(cuda_params).optimizer) is TorchLamb


def test_auto_takes_torch_on_the_cpu(fake_apex):
    assert type(make_lamb([torch.nn.Parameter(torch.ones(2, 2))]).optimizer) is TorchLamb


def test_apex_asked_for_and_absent(no_apex, cuda_params):
    with pytest.raises(ValueError, match=r"--lamb-impl apex needs NVIDIA's Apex.*auto or torch"):
        make_lamb(cuda_params, lamb_impl="apex")


def test_apex_asked_for_on_the_cpu(fake_apex):
    with pytest.raises(ValueError, match=r"--lamb-impl apex .*not on a CUDA device"):
        make_lamb([torch.nn.Parameter(torch.ones(2, 2))], lamb_impl="apex")


def test_first_update_by_hand():
    """m = 0.1 g and v = 0.001 g^2: m / sqrt(v) = sqrt(10) for every element, whatever g is."""
    matrix, bias = torch.nn.Parameter(torch.full((1, 4), 3.0)), torch.nn.Parameter(torch.ones(2))
    lamb = make_lamb([matrix, bias], lamb_eps=0.0, weight_decay=0.0, lr=[0.5])
    assert lamb.optimizer.param_groups[0]["weight_decay"] == 0
    matrix.grad, bias.grad = torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([1.0, -3.0])
    lamb.step()
    # without decay FusedLAMB takes no trust ratio
    assert matrix[0].tolist() == pytest.approx([3 - 0.5 * 10**0.5] * 4)
    assert bias.tolist() == pytest.approx([1 - 0.5 * 10**0.5, 1 + 0.5 * 10**0.5])

    matrix = torch.nn.Parameter(torch.full((1, 4), 3.0))
    lamb = make_lamb([matrix], lamb_eps=0.0, weight_decay=1.0, lr=[0.5])
    matrix.grad = torch.ones(1, 4)
    lamb.step()
    # every element of the update is equal, so its length relative to the parameter's cancels out
    assert matrix[0].tolist() == pytest.approx([3 - 0.5 * 3] * 4)


def follow_the_paper(param, grads, lr, betas, eps, weight_decay, bias_correction):
    """Algorithm 2 of arXiv 1904.00962 with phi = identity, in float64, one parameter."""
    x = param.double()
    m, v = torch.zeros_like(x), torch.zeros_like(x)
    for step, grad in enumerate(grads, start=1):
        m = betas[0] * m + (1 - betas[0]) * grad.double()
        v = betas[1] * v + (1 - betas[1]) * grad.double() ** 2
        corrections = [1 - beta**step if bias_correction else 1.0 for beta in betas]
        r = (m / corrections[0]) / ((v / corrections[1]).sqrt() + eps) + weight_decay * x
        ratio = x.norm() / r.norm() if weight_decay else 1.0
        x = x - lr * ratio * r
    return x


@pytest.mark.parametrize("bias_correction", [False, True])
def test_follows_the_paper(bias_correction):
    generator = torch.Generator().manual_seed(7)
    shapes = [(5, 3), (4,), (2, 6)]
    params = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    started = [param.detach().clone() for param in params]
    grads = [[torch.randn(shape, generator=generator) for shape in shapes] for _ in range(5)]
    lamb = make_lamb(params, lr=[0.01], lamb_bias_correction=bias_correction, lamb_impl="torch")
    for update in grads:
        for param, grad in zip(params, update, strict=True):
            param.grad = grad.clone()
        lamb.step()
    for index, (param, start) in enumerate(zip(params, started, strict=True)):
        decay = 0.01 if param.ndim >= 2 else 0.0
        own = [update[index] for update in grads]
        expected = follow_the_paper(start, own, 0.01, (0.9, 0.999), 1e-6, decay, bias_correction)
        torch.testing.assert_close(param.double(), expected, rtol=2e-6, atol=1e-7)


def test_a_parameter_or_an_update_of_zeros_has_the_ratio_one():
    zeros, ones = torch.zeros(2, 2), torch.ones(2, 2)
    ratios = trust_ratios([zeros, ones, 3 * ones], [ones, zeros, 2 * ones])
    assert [ratio.item() for ratio in ratios] == [1.0, 1.0, 1.5]


def test_layers_have_their_share_of_the_rate():
    layer, head = (torch.nn.Parameter(torch.full((2, 2), 2.0)) for _ in range(2))
    layer.param_group = 1  # depth, see layerwise.py
    lamb = make_lamb([layer, head], layerwise_lr_decay=0.5, lr=[0.2])
    for param in (layer, head):
        param.grad = torch.ones(2, 2)
    lamb.step()
    # the trust ratio makes a step of an update of equal elements the rate times the parameter
    assert layer[0, 0].item() == pytest.approx(2 - 0.1 * 2)
    assert head[0, 0].item() == pytest.approx(2 - 0.2 * 2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU and NVIDIA's Apex")
def test_torch_agrees_with_apex():
    pytest.importorskip("amp_C", reason="needs NVIDIA's Apex")
    generator = torch.Generator().manual_seed(7)
    start = [torch.randn(shape, generator=generator) for shape in ((64, 32), (32,), (8, 8))]
    results = {}
    for impl in ("torch", "apex"):
        params = [torch.nn.Parameter(tensor.cuda()) for tensor in start]
        lamb = make_lamb(params, lr=[0.01], lamb_impl=impl)
        for update in range(5):
            for param in params:
                param.grad = torch.full_like(param, 0.1 * (update + 1)) * param.detach().sign()
            lamb.step()
        results[impl] = [param.detach() for param in params]
    for ours, theirs in zip(results["torch"], results["apex"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"lamb_betas": "nonsense"}, "--lamb-betas"),
        ({"lamb_eps": -1.0}, "--lamb-eps"),
        ({"weight_decay": -1.0}, "--weight-decay"),
    ],
)
def test_a_bad_option_is_named(fake_apex, cuda_params, options, named):
    with pytest.raises(ValueError, match=named):
        make_lamb(cuda_params, **options)
