"""What import-tf makes of the shapes in a checkpoint; TensorFlow is not needed for that."""

import pytest

from fairseq_electra.conversion.key_map import DISCRIMINATOR, GENERATOR
from fairseq_electra.conversion.tf import choose_sizes, describe_heads

BOTH = [DISCRIMINATOR, GENERATOR]


class Variables(dict):
    """Names with shapes, as TfTensors has them."""

    @property
    def shapes(self):
        return self


def make_variables(hidden: int, generator_hidden: int, layers=3, generator_layers=2) -> Variables:
    variables = Variables()
    for scope, count, size in (
        ("electra/", layers, hidden),
        ("generator/", generator_layers, generator_hidden),
    ):
        for layer in range(count):
            name = f"{scope}encoder/layer_{layer}/intermediate/dense/kernel"
            variables[name] = (size, 4 * size)
    variables["electra/embeddings/word_embeddings"] = (100, 16)
    variables["electra/embeddings/position_embeddings"] = (32, 16)
    return variables


@pytest.mark.parametrize("hidden, heads", [(64, 1), (256, 4)])
def test_heads_are_64_wide_and_a_line_says_so(hidden, heads):
    cfg = choose_sizes(make_variables(hidden, 64), BOTH, None, None, None)
    assert cfg.encoder_attention_heads == heads
    line = f"assumed: {heads} heads, 64 wide (--heads)"
    assert describe_heads(cfg, BOTH, None) == [line]
    assert describe_heads(cfg, BOTH, heads) == describe_heads(cfg, [GENERATOR], None) == []


@pytest.mark.parametrize("hidden", [24, 96, 200])
def test_heads_must_be_given_where_they_cannot_be_64_wide(hidden):
    variables = make_variables(hidden, hidden // 2)
    with pytest.raises(ValueError, match=f"hidden size is {hidden}, .* with --heads$"):
        choose_sizes(variables, BOTH, None, None, None)
    cfg = choose_sizes(variables, BOTH, 4, None, None)
    assert (cfg.encoder_embed_dim, cfg.encoder_attention_heads) == (hidden, 4)


def test_arch_is_for_a_generator_alone():
    variables = make_variables(128, 64)
    cfg = choose_sizes(variables, BOTH, None, None, None)
    assert (cfg.encoder_layers, cfg.generator_layers) == (3, 2)
    with pytest.raises(ValueError, match="--arch electra_base is for a generator alone"):
        choose_sizes(variables, BOTH, None, "electra_base", None)
    alone = choose_sizes(variables, [GENERATOR], None, "electra_base", None)
    assert (alone.encoder_layers, alone.encoder_embed_dim) == (2, 768)
    with pytest.raises(ValueError, match="--heads is for a discriminator"):
        choose_sizes(variables, [GENERATOR], 4, "electra_base", None)


def test_a_new_generator_is_as_the_papers():
    for hidden, size in ((256, 1 / 4), (768, 1 / 3), (1024, 1 / 4)):
        variables = make_variables(hidden, 64)
        cfg = choose_sizes(variables, [DISCRIMINATOR], None, None, None)
        assert cfg.generator_size == size
    assert choose_sizes(variables, [DISCRIMINATOR], None, None, 0.5).generator_size == 0.5
