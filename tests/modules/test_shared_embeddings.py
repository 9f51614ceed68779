"""Tables that are others' plus a difference: values, gradients, and their form in a checkpoint."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fairseq_electra.modules.encoder import Embeddings
from fairseq_electra.modules.shared_embeddings import (
    TABLES,
    DisentangledEmbeddings,
    add_deltas,
    find_delta,
    take_deltas,
)

TOKENS = torch.tensor([[3, 1, 1, 4]])
TYPES = torch.tensor([[0, 0, 1, 1]])


def make_pair():
    torch.manual_seed(1)
    base = Embeddings(num_tokens=6, size=3, max_positions=5)
    own = DisentangledEmbeddings(base)
    for table in (own.embed_tokens, own.embed_positions, own.embed_token_types):
        torch.nn.init.normal_(table.delta)
    return base, own


@pytest.mark.parametrize("types", [None, TYPES])
def test_rows_are_sums_and_the_gradient_stays_here(types):
    base, own = make_pair()
    expected = torch.zeros(1, 4, 3)
    for name, ids in (
        ("embed_tokens", TOKENS),
        ("embed_positions", torch.arange(4)[None]),
        ("embed_token_types", TYPES * 0 if types is None else types),
    ):
        expected += getattr(base, name).weight[ids] + getattr(own, name).delta[ids]
    found = own(TOKENS, types)
    torch.testing.assert_close(found, own.layer_norm(expected))
    (found.square() * torch.rand(3)).sum().backward()
    assert all(parameter.grad is None for parameter in base.parameters())
    assert all(parameter.grad.any() for parameter in own.parameters())
    assert own.embed_tokens.delta.grad.any(1).tolist() == [False, True, False, True, True, False]


def test_a_whole_table_is_what_its_rows_are():
    base, own = make_pair()
    for name in TABLES:
        table, ids = getattr(own, name), torch.arange(len(getattr(base, name).weight))
        assert torch.equal(table.weight, table(ids))
        table.weight.sum().backward()
    assert all(parameter.grad is None for parameter in base.parameters())


def test_the_tables_of_others_are_no_part_of_it():
    _, own = make_pair()
    names = {f"{name}.delta" for name in TABLES} | {"layer_norm.weight", "layer_norm.bias"}
    assert {name for name, _ in own.named_parameters()} == set(own.state_dict()) == names
    assert str(own.embed_tokens) == "DisentangledEmbedding(6, 3)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), power=st.integers(-12, 12))
def test_a_sum_comes_back_to_the_last_bit(dtype, seed, power):
    torch.manual_seed(seed)
    base = torch.randn(100, 100).to(dtype)
    total = base + (torch.randn(100, 100) * 2.0**power).to(dtype)
    assert base.add(find_delta(total, base)).equal(total)
    tensors = {f"{part}embeddings.{name}.weight": base for part in ("", "generator.")
               for name in TABLES}  # fmt: skip
    tensors["embeddings.embed_tokens.weight"] = total
    take_deltas(tensors)
    assert not tensors["embeddings.embed_positions.delta"].any()
    add_deltas(tensors)
    assert torch.equal(tensors["embeddings.embed_tokens.weight"], total)
    assert len(tensors) == 2 * len(TABLES)


def test_a_table_that_was_no_sum_is_rounded_to_the_others_last_digit():
    base, table = torch.ones(1), torch.full((1,), 1e-9)
    assert 0 < (base + find_delta(table, base) - table).abs() <= 2.0**-25
