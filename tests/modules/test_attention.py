"""The fused attention against the plain reference, and what padding must not do."""

import pytest
import torch
import torch.nn.functional as F

from fairseq_electra.modules.attention import SelfAttention
from fairseq_electra.modules.layout import Layout, lay_out


def make_layout(lengths, longest, packed) -> Layout:
    is_padding = torch.arange(longest) >= torch.tensor(lengths)[:, None]
    return lay_out(len(lengths), longest, is_padding if is_padding.any() else None, packed)


@pytest.mark.parametrize("lengths", [[7, 7], [7, 4]])
@pytest.mark.parametrize("packed", [False, True])
def test_fused_and_reference_agree_in_output_and_gradients(lengths, packed):
    torch.manual_seed(0)
    fused = SelfAttention(32, 4, dropout=0.0, impl="fused")
    reference = SelfAttention(32, 4, dropout=0.0, impl="reference")
    reference.load_state_dict(fused.state_dict())
    is_token = torch.arange(7) < torch.tensor(lengths)[:, None]  # (B, T)
    x = torch.randn(2, 7, 32)
    outputs = []
    for module, pack in ((fused, packed), (reference, False)):
        inputs = x.clone().requires_grad_()
        layout = make_layout(lengths, 7, pack)
        out = layout.pad(module(layout.unpad(inputs), layout))[is_token]
        out.square().sum().backward()
        outputs.append((out, inputs.grad, module.qkv_proj.weight.grad))
    for ours, plain in zip(*outputs):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("impl", ["fused", "reference"])
def test_padding_changes_nothing_before_it(impl):
    torch.manual_seed(0)
    module = SelfAttention(32, 4, dropout=0.0, impl=impl)
    x = torch.randn(5, 32)
    padded = torch.cat([x, torch.randn(3, 32) * 100])
    alone = module(x, make_layout([5], 5, packed=False))
    torch.testing.assert_close(module(padded, make_layout([5], 8, packed=False))[:5], alone)


def test_dropout_acts_on_the_weights_in_training_only():
    torch.manual_seed(0)
    for impl in ("fused", "reference"):
        module = SelfAttention(32, 4, dropout=0.5, impl=impl)
        x, layout = torch.randn(12, 32), make_layout([6, 6], 6, packed=True)
        assert not torch.equal(module(x, layout), module(x, layout))
        module.eval()
        assert torch.equal(module(x, layout), module(x, layout))


def test_gradients_in_bf16_on_the_cpu_take_the_plain_products(monkeypatch):
    """torch's kernel is slow there, and there alone."""
    calls = []
    kernel = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or kernel(*a, **k)
    )
    module = SelfAttention(32, 4, dropout=0.0, impl="fused")
    x, layout = torch.randn(12, 32), make_layout([6, 6], 6, packed=True)
    with torch.autocast("cpu", torch.bfloat16):
        ours = module(x, layout)
        assert not calls
        with torch.no_grad():
            theirs = module(x, layout)
        assert calls == [1]
    module(x, layout)
    assert calls == [1, 1]
    torch.testing.assert_close(ours, theirs, rtol=0.02, atol=0.02)
