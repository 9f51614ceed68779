"""Rows become batches, and the tensors of a batch share one storage."""

import torch

from fairseq_electra.data.collating import pack_tensors, pad_rows


def test_rows_are_padded_on_the_right():
    assert pad_rows([[1, 2, 3], [4]], value=9).tolist() == [[1, 2, 3], [4, 9, 9]]
    assert pad_rows([[0.5], []], value=1.0).tolist() == [[0.5], [1.0]]


def test_packed_tensors_are_the_same_in_one_storage():
    tensors = {
        "flags": torch.tensor([[True, False, True]]),
        "numbers": torch.arange(6).reshape(2, 3),
        "none": torch.zeros(2, 0, dtype=torch.float64),
        "shares": torch.rand(3, dtype=torch.float64),
        "half": torch.rand(3, 1).to(torch.float16),
    }
    packed = pack_tensors(tensors)
    assert list(packed) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(packed[name], tensor)
        assert packed[name].dtype == tensor.dtype
    assert len({tensor.untyped_storage().data_ptr() for tensor in packed.values()}) == 1
