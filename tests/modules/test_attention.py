"""The fused attention against the plain reference, and what padding must not do."""

import pytest
import torch

from fairseq_electra.modules.attention import SelfAttention


@pytest.mark.parametrize("padded", [False, True])
def test_fused_and_reference_agree_in_output_and_gradients(padded):
    torch.manual_seed(0)
    fused = SelfAttention(32, 4, dropout=0.0, impl="fused")
    reference = SelfAttention(32, 4, dropout=0.0, impl="reference")
    reference.load_state_dict(fused.state_dict())
    attended = torch.tensor([[1] * 7, [1] * 4 + [0] * 3]).bool()[:, None, None] if padded else None
    x = torch.randn(2, 7, 32)
    outputs = []
    for module in (fused, reference):
        inputs = x.clone().requires_grad_()
        out = module(inputs, attended)
        out.square().sum().backward()
        outputs.append((out, inputs.grad, module.qkv_proj.weight.grad))
    for ours, plain in zip(*outputs):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_padding_changes_nothing_before_it(impl):
    torch.manual_seed(0)
    module = SelfAttention(32, 4, dropout=0.0, impl=impl)
    x = torch.randn(1, 5, 32)
    padded = torch.cat([x, torch.randn(1, 3, 32) * 100], dim=1)
    attended = (torch.arange(8) < 5)[None, None, None]
    torch.testing.assert_close(module(padded, attended)[:, :5], module(x, None))


def test_dropout_acts_on_the_weights_in_training_only():
    torch.manual_seed(0)
    for impl in ("fused", "reference"):
        module = SelfAttention(32, 4, dropout=0.5, impl=impl)
        x = torch.randn(2, 6, 32)
        assert not torch.equal(module(x, None), module(x, None))
        module.eval()
        assert torch.equal(module(x, None), module(x, None))
