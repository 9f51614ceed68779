"""Parameter groups, clipping, option checks, finding Apex."""

import math
import sys

import pytest
import torch
from fairseq import utils
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch._subclasses.fake_tensor import FakeTensorMode

from fairseq_electra.optim.electra_optimizer import (
    apex_obstacle,
    clip_by_global_norm,
    load_apex_class,
    read_betas,
    read_non_negative,
    split_by_decay,
)


def make_params(*shapes):
    return [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]


def test_weight_decay_goes_to_matrices_and_tables_alone():
    bias, table, scale, gamma, kernel = make_params((3,), (5, 3), (), (4,), (4, 1))
    groups = split_by_decay([bias, table, scale, gamma, kernel], 0.1)
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
    assert [id(p) for p in groups[0]["params"]] == [id(table), id(kernel)]
    assert [id(p) for p in groups[1]["params"]] == [id(bias), id(scale), id(gamma)]


def test_biases_and_layer_norm_of_a_real_layer_do_not_decay():
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16)
    groups = split_by_decay(layer.parameters(), 0.01)
    excluded = {id(p) for p in groups[1]["params"]}
    for name, param in layer.named_parameters():
        assert (id(param) in excluded) == ("norm" in name or "bias" in name), name


def test_a_group_without_parameters_is_left_out():
    assert [g["weight_decay"] for g in split_by_decay(make_params((3,)), 0.1)] == [0.0]
    assert [g["weight_decay"] for g in split_by_decay(make_params((3, 2)), 0.1)] == [0.1]


def set_grads(params, *values):
    for param, value in zip(params, values, strict=True):
        param.grad = torch.tensor(value)


def test_clipping_divides_by_the_norm_itself():
    params = make_params((2,), (2,))
    set_grads(params, [3.0, 0.0], [0.0, 4.0])
    norm = clip_by_global_norm(params, 1.0)
    assert norm.item() == 5.0
    # Dividing by 5 + 1e-6 would give 0.59999988.
    assert params[0].grad.tolist() == [pytest.approx(0.6, rel=6e-8), 0.0]
    assert params[1].grad.tolist() == [0.0, pytest.approx(0.8, rel=6e-8)]


@given(
    values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=6),
    slack=st.floats(1.0, 10.0),
)
@settings(deadline=None)
def test_gradients_within_the_limit_keep_every_bit(values, slack):
    params = make_params((len(values),), (2,))
    params[0].grad = torch.tensor(values)
    before = params[0].grad.clone()
    norm = clip_by_global_norm(params, 0)
    assert clip_by_global_norm(params, norm.item() * slack + 1e-30) == norm
    assert torch.equal(params[0].grad.view(torch.int32), before.view(torch.int32))
    assert params[1].grad is None


@given(
    shapes=st.lists(st.lists(st.integers(1, 5), max_size=3), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_the_norm_is_fairseqs_and_becomes_the_limit(shapes, seed):
    generator = torch.Generator().manual_seed(seed)
    params = make_params(*shapes)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator)
    expected = utils.clip_grad_norm_(params, 0)
    torch.testing.assert_close(clip_by_global_norm(params, 1e-3), expected, rtol=1e-6, atol=0)
    clipped = clip_by_global_norm(params, 0).item()
    assert clipped == pytest.approx(min(1e-3, expected.item()), rel=1e-5)


def test_limit_zero_clips_nothing():
    params = make_params((2,))
    set_grads(params, [30.0, 40.0])
    assert clip_by_global_norm(params, 0.0).item() == 50.0
    assert params[0].grad.tolist() == [30.0, 40.0]


def test_the_norm_of_all_workers_decides():
    params = make_params((2,))
    set_grads(params, [3.0, 4.0])
    norm = clip_by_global_norm(params, 1.0, lambda local: local * 2)
    assert norm.item() == 10.0
    assert params[0].grad.tolist() == pytest.approx([0.3, 0.4])


def test_no_gradients_give_norm_zero():
    assert clip_by_global_norm(make_params((2,)), 1.0).item() == 0.0
    assert clip_by_global_norm([], 1.0).item() == 0.0


def test_zero_gradients_stay_zero():
    params = make_params((2,))
    set_grads(params, [0.0, 0.0])
    assert clip_by_global_norm(params, 1.0).item() == 0.0
    assert params[0].grad.tolist() == [0.0, 0.0]


def test_clipping_never_reads_a_value_back():
    with FakeTensorMode():  # has no values: reading one raises
        params = make_params((2, 3), (3,))
        for param in params:
            param.grad = torch.ones_like(param)
        assert clip_by_global_norm(params, 1.0).shape == ()


@pytest.mark.parametrize(
    "value", ["(0.9, 0.98)", "[0.9,0.98]", "0.9, 0.98", (0.9, 0.98), OmegaConf.create([0.9, 0.98])]
)
def test_betas_are_read_as_fairseqs_adam_reads_them(value):
    assert read_betas(value, "--adam-betas") == (0.9, 0.98)


@pytest.mark.parametrize(
    "value",
    [
        "(0.9,)",
        "0.9",
        "0.9 0.98",
        "(0.9, 1.0)",
        "(-0.1, 0.9)",
        "(0.9, 0.98, 0.99)",
        "('a', 'b')",
        "__import__('os').getcwd()",
        "",
        None,
        math.nan,
    ],
)
def test_bad_betas_name_the_option(value):
    with pytest.raises(ValueError, match="--adam-betas must be two numbers"):
        read_betas(value, "--adam-betas")


@pytest.mark.parametrize("value", [-1e-6, math.nan])
def test_a_negative_number_names_the_option(value):
    assert read_non_negative(0.0, "--adam-eps") == 0.0
    with pytest.raises(ValueError, match="--adam-eps must be 0 or more"):
        read_non_negative(value, "--adam-eps")


def test_apex_absent(no_apex, cuda_params):
    assert apex_obstacle("FusedAdam", cuda_params) == "it is not installed"


def test_another_package_named_apex(wrong_apex, cuda_params):
    assert "not NVIDIA's" in apex_obstacle("FusedAdam", cuda_params)


def test_apex_without_the_class(fake_apex, cuda_params):
    assert "not NVIDIA's" in apex_obstacle("FusedNothing", cuda_params)


def test_apex_without_cuda_extensions(fake_apex, cuda_params, monkeypatch):
    monkeypatch.setitem(sys.modules, "amp_C", None)
    assert "without its CUDA extensions" in apex_obstacle("FusedAdam", cuda_params)


def test_apex_with_parameters_on_the_cpu(fake_apex, cuda_params):
    assert apex_obstacle("FusedAdam", cuda_params) is None
    params = cuda_params + make_params((2,))
    assert "not on a CUDA device" in apex_obstacle("FusedAdam", params)


def test_the_error_says_what_to_do(wrong_apex, cuda_params):
    with pytest.raises(ValueError) as error:
        load_apex_class("FusedAdam", cuda_params, "--adam-impl apex", "Take torch.")
    message = str(error.value)
    assert message.startswith("--adam-impl apex needs NVIDIA's Apex")
    assert "not NVIDIA's" in message
    assert "Take torch." in message
    assert "github.com/NVIDIA/apex" in message
    assert "PyPI is another" in message
