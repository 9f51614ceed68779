"""The one table of names, both ways; what does not fit it is named."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fairseq_electra.conversion.key_map import (
    DISCRIMINATOR,
    GENERATOR,
    HF,
    TF,
    check_names,
    check_shapes,
    list_entries,
    to_foreign,
    to_ours,
)

NETWORKS = st.sampled_from([DISCRIMINATOR, GENERATOR])
SIDES = st.sampled_from([HF, TF])


def make_tensors(entries):
    """A tensor with numbers of its own for each entry; three times two rows where stacked."""
    tensors = {}
    for number, entry in enumerate(entries):
        shape = (6, 4) if entry.ours.endswith(".weight") and "norm" not in entry.ours else (6,)
        count = torch.Size(shape).numel()
        tensors[entry.ours] = torch.arange(count).view(shape) + 100.0 * number
    return tensors


@given(NETWORKS, SIDES, st.integers(1, 13), st.booleans())
def test_there_and_back(network, side, layers, is_untied):
    entries = list_entries(network, layers, is_untied)
    ours = make_tensors(entries)
    foreign = to_foreign(entries, ours, side)
    assert len(foreign) == len({name for entry in entries for name in entry.names(side)})
    back = to_ours(entries, foreign, side)
    assert list(back) == list(ours)
    assert all(torch.equal(back[name], ours[name]) for name in ours)


@pytest.mark.parametrize(
    ("network", "ours", "hf", "tf"),
    [
        (
            DISCRIMINATOR,
            "encoder.layers.11.fc1.weight",
            "electra.encoder.layer.11.intermediate.dense.weight",
            "electra/encoder/layer_11/intermediate/dense/kernel",
        ),
        (
            GENERATOR,
            "generator.encoder.layers.0.final_layer_norm.bias",
            "electra.encoder.layer.0.output.LayerNorm.bias",
            "generator/encoder/layer_0/output/LayerNorm/beta",
        ),
        (GENERATOR, "generator.head.bias", "generator_lm_head.bias",
         "generator_predictions/output_bias"),
        (DISCRIMINATOR, "discriminator_head.out_proj.weight",
         "discriminator_predictions.dense_prediction.weight",
         "discriminator_predictions/dense_1/kernel"),
        (GENERATOR, "generator.encoder.embeddings_project.weight",
         "electra.embeddings_project.weight", "generator/embeddings_project/kernel"),
    ],
)  # fmt: skip
def test_names_by_hand(network, ours, hf, tf):
    (entry,) = [entry for entry in list_entries(network, 12) if entry.ours == ours]
    assert (entry.hf, entry.tf) == ((hf,), (tf,))


def test_query_key_and_value_are_stacked_in_this_order():
    (entry,) = [e for e in list_entries(GENERATOR, 1) if e.ours.endswith("qkv_proj.weight")]
    parts = {name: torch.full((2, 2), float(n)) for n, name in enumerate(entry.tf)}
    assert [name.split("/")[-2] for name in entry.tf] == ["query", "key", "value"]
    stacked = to_ours([entry], parts, TF)[entry.ours]
    assert stacked[:, 0].tolist() == [0, 0, 1, 1, 2, 2]


def test_kernels_are_transposed():
    (entry,) = [e for e in list_entries(DISCRIMINATOR, 1) if e.ours.endswith("fc1.weight")]
    kernel = torch.tensor([[1.0, 2.0, 3.0]])
    assert to_ours([entry], {entry.tf[0]: kernel}, TF)[entry.ours].tolist() == [[1], [2], [3]]


@pytest.mark.parametrize("is_untied", [False, True])
def test_the_generators_embeddings(is_untied):
    entries = list_entries(GENERATOR, 1, is_untied)
    (entry,) = [e for e in entries if "embed_tokens" in e.ours]
    assert entry.ours == ("generator." if is_untied else "") + "embeddings.embed_tokens.weight"
    scope = "generator" if is_untied else "electra"
    assert entry.tf == (f"{scope}/embeddings/word_embeddings",)
    assert entry.hf == ("electra.embeddings.word_embeddings.weight",)


def test_every_name_is_reported():
    entries = list_entries(DISCRIMINATOR, 1)
    names = {name for entry in entries for name in entry.hf}
    gone = "electra.encoder.layer.0.attention.self.key.bias"
    with pytest.raises(ValueError, match=rf"^here: missing tensors {gone}; unknown tensors a, b$"):
        check_names(entries, (names - {gone}) | {"a", "b"}, HF, "here")


def test_shapes_and_types_are_reported():
    entries = [e for e in list_entries(DISCRIMINATOR, 1) if "fc1" in e.ours]
    shapes = {"encoder.layers.0.fc1.weight": (4, 2), "encoder.layers.0.fc1.bias": (4,)}
    foreign = {
        "electra/encoder/layer_0/intermediate/dense/kernel": torch.ones(4, 2),
        "electra/encoder/layer_0/intermediate/dense/bias": torch.ones(4, dtype=torch.int64),
    }
    with pytest.raises(ValueError, match=r"kernel is 4 x 2, not 2 x 4; .*bias holds torch\.int64"):
        check_shapes(entries, foreign, shapes, TF, "here")
