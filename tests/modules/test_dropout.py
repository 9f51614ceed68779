"""The CPU's own dropout mask: its share, its scale, its seed, its gradient."""

import pytest
import torch

from fairseq_electra.modules.dropout import Dropout, draw_mask, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_share_and_scale(p, dtype):
    torch.manual_seed(0)
    mask = draw_mask(torch.empty(1000, 1003, dtype=dtype), p)
    assert mask.dtype == dtype and mask.shape == (1000, 1003)
    kept = mask != 0
    # of a million draws: the standard deviation of the share is at most 0.0005
    assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.0025)
    assert mask[kept].unique().tolist() == [pytest.approx(1 / (1 - p), rel=4e-3)]
    # neighbours, and rows, know nothing of each other
    for a, b in ((kept[:, 1:], kept[:, :-1]), (kept[1:], kept[:-1])):
        both = (a & b).double().mean().item()
        assert both == pytest.approx((1 - p) ** 2, abs=0.0025)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1.0])
def test_nothing_and_everything(p):
    x = torch.ones(50, 50)
    assert torch.equal(dropout(x, p), torch.full_like(x, float(p < 1)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_sizes_that_four_does_not_divide(size):
    assert dropout(torch.ones(size), 0.5).shape == (size,)
    assert dropout(torch.ones(size, 1, 3), 0.5).shape == (size, 1, 3)


def test_the_seed_decides_and_every_call_draws_anew():
    module, x = Dropout(0.5), torch.ones(100)
    torch.manual_seed(3)
    first, second = module(x), module(x)
    torch.manual_seed(3)
    assert torch.equal(module(x), first)
    assert not torch.equal(first, second)


def test_the_gradient_is_the_mask():
    x = torch.randn(64, requires_grad=True)
    out = Dropout(0.5)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x, out)


def test_not_in_evaluation():
    x = torch.randn(64)
    assert Dropout(0.5).eval()(x) is x


def test_a_compiled_step_takes_torchs():
    compiled = torch.compile(lambda x: dropout(x, 0.5), backend="eager", fullgraph=True)
    assert sorted(compiled(torch.ones(500)).unique().tolist()) == [0.0, 2.0]
