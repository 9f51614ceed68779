"""Taking padding out of a batch and putting it back."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_electra.modules.encoder import Encoder, EncoderSize
from fairseq_electra.modules.layout import lay_out


def mask_padding(lengths, longest: int) -> torch.Tensor:
    return torch.arange(longest) >= torch.tensor(lengths)[:, None]


def test_places_of_the_tokens_by_hand():
    layout = lay_out(3, 3, mask_padding([2, 3, 1], 3), pack=True)
    assert layout.places.tolist() == [0, 1, 3, 4, 5, 6]
    assert layout.attended.shape == (3, 1, 1, 3)
    assert layout.attended.flatten().tolist() == [1, 1, 0, 1, 1, 1, 1, 0, 0]


def test_pad_puts_zeros_at_padding_and_unpad_takes_it_out():
    layout = lay_out(2, 3, mask_padding([1, 3], 3), pack=True)
    x = torch.arange(1.0, 9.0).view(4, 2)
    padded = layout.pad(x)
    assert padded.tolist() == [[[1, 2], [0, 0], [0, 0]], [[3, 4], [5, 6], [7, 8]]]
    assert torch.equal(layout.unpad(padded), x)


def test_gradients_of_pad_and_unpad():
    layout = lay_out(2, 3, mask_padding([2, 3], 3), pack=True)
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layout.pad, x)
    padded = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layout.unpad, padded)


@pytest.mark.parametrize("pack", [False, True])
def test_without_padding_nothing_moves(pack):
    layout = lay_out(2, 4, mask_padding([4, 4], 4), pack)
    x = torch.randn(8, 3)
    assert layout.places is None
    assert layout.pad(x).data_ptr() == x.data_ptr() == layout.unpad(x.view(2, 4, 3)).data_ptr()
    assert (layout.attended is None) == pack  # it is not worth a look where padding is kept


def test_a_compiled_step_keeps_padding():
    """Its shapes are static."""
    compiled = torch.compile(lambda mask: lay_out(2, 4, mask, True).places is None, backend="eager")
    assert compiled(mask_padding([4, 1], 4))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 3), st.booleans())
def test_an_encoder_computes_the_same_packed_as_padded(lengths, extra, training):
    torch.manual_seed(0)
    longest = max(lengths) + extra
    encoder = Encoder(EncoderSize(2, 8, 16, 2), 4, 0.0, 0.0, "fused").train(training)
    embedded = torch.randn(len(lengths), longest, 4)
    padding = mask_padding(lengths, longest)
    results = []
    for encoder.pack in (True, False):
        encoder.zero_grad()
        features = encoder(embedded, padding)[~padding]
        features.square().sum().backward()
        gradients = [parameter.grad.clone() for parameter in encoder.parameters()]
        results.append((features, *gradients))
    for packed, padded in zip(*results):
        torch.testing.assert_close(packed, padded, rtol=1e-4, atol=1e-4)


def test_the_work_is_that_of_the_tokens():
    """What the layers are given, counted: 12 tokens of 40 places."""
    encoder = Encoder(EncoderSize(1, 8, 16, 2), 8, 0.0, 0.0, "fused")
    seen = []
    encoder.layers[0].fc1.register_forward_hook(lambda module, inputs, out: seen.append(len(out)))
    encoder(torch.randn(4, 10, 8), mask_padding([1, 10, 1, 0], 10))
    assert seen == [12]
