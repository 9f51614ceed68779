"""electra_lamb over a stand-in for Apex."""

import math

import pytest
import torch

from fairseq_electra.optim.electra_lamb import ElectraLamb, ElectraLambConfig


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


def test_without_apex_the_error_names_the_other_optimizer(no_apex, cuda_params):
    with pytest.raises(ValueError, match=r"--optimizer electra_lamb needs NVIDIA's Apex.*_adam"):
        make_lamb(cuda_params)


def test_another_package_named_apex_is_seen(wrong_apex, cuda_params):
    with pytest.raises(ValueError, match=r"--optimizer electra_lamb .* not NVIDIA's"):
        make_lamb(cuda_params)


def test_on_the_cpu(fake_apex):
    with pytest.raises(ValueError, match=r"--optimizer electra_lamb .*not on a CUDA device"):
        make_lamb([torch.nn.Parameter(torch.ones(2, 2))])


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
