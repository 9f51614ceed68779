"""Sizes, sharing, gradients, and what the model does on other tasks than pre-training."""

from argparse import Namespace

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY

from fairseq_electra.checkpoints.fitting import fingerprint
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import (
    ElectraConfig,
    discriminator_encoder_size,
    generator_encoder_size,
    usual_generator_size,
)
from fairseq_electra.models.electra_mlm import ElectraMaskedLM
from tiny import TINY, make_dictionary


def config_of(arch, **options):
    args = Namespace(**options)
    ARCH_CONFIG_REGISTRY[arch](args)
    return ElectraConfig(**vars(args))


def count(parameters):
    return sum(parameter.numel() for parameter in parameters)


def build_on_meta(arch):
    """The arch over 30 522 dictionary entries, without memory for it."""
    with torch.device("meta"):
        return ElectraModel(config_of(arch), make_dictionary(30_517), pretrain=True)


def discriminator_parameters(model):
    return count(p for name, p in model.named_parameters() if not name.startswith("generator."))


@pytest.mark.parametrize(
    ("arch", "millions", "generator"),
    [
        ("electra_small", 13.55, (12, 64, 256, 1)),
        ("electra_base", 109.5, (12, 256, 1024, 4)),
        ("electra_large", 335.2, (24, 256, 1024, 4)),
    ],
)
def test_sizes_are_the_papers(arch, millions, generator):
    model = build_on_meta(arch)
    assert discriminator_parameters(model) / 1e6 == pytest.approx(millions, abs=0.1)
    assert tuple(generator_encoder_size(model.cfg)) == generator


def test_small_by_hand():
    """Words, positions, types, their LayerNorm; projection; 12 layers; discriminator's head."""
    embeddings = (30_522 + 512 + 2 + 2) * 128
    layer = 4 * 256 * 256 + 4 * 256 + 2 * 256 * 1024 + 1024 + 256 + 4 * 256
    head = 256 * 256 + 256 + 256 + 1
    expected = embeddings + 128 * 256 + 256 + 12 * layer + head
    assert discriminator_parameters(build_on_meta("electra_small")) == expected


def test_the_command_line_wins_over_the_arch():
    cfg = config_of("electra_small", encoder_layers=3, generator_size=0.5)
    assert (cfg.encoder_layers, cfg.generator_size, cfg.encoder_embed_dim) == (3, 0.5, 256)


@pytest.mark.parametrize(
    "arch",
    [
        *("electra_tiny", "electra_small", "electra_base"),
        pytest.param("electra_large", marks=pytest.mark.campaign),
    ],
)
def test_every_arch_builds_and_steps(arch):
    cfg = config_of(arch, max_positions=16, encoder_layers=2)  # a large one has 24 alike
    model = ElectraModel(cfg, make_dictionary(), pretrain=True)
    batch = make_batch()
    output = model(**batch)
    (output.gen_logits.sum() + output.disc_logits.sum()).backward()
    assert output.gen_logits.shape == (2, 2, 45)
    assert output.disc_logits.shape == (2, 6)
    assert all(p.grad is not None for p in model.parameters())


def make_batch(tokens=((0, 5, 6, 7, 8, 2), (0, 9, 10, 2, 1, 1))):
    return {
        "src_tokens": torch.tensor(tokens),
        "picked": torch.tensor([[1, 3], [2, 0]]),
        "picked_weights": torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        "becomes_mask": torch.tensor([[True, False], [True, False]]),
        "uniform": torch.tensor([[0.3, 0.9], [0.6, 1.0]], dtype=torch.float64),
        "has_padding": True,
    }


def test_embeddings_are_one_storage(build_model):
    model = build_model()
    tables = [p for name, p in model.named_parameters() if "embed_" in name or "layer_norm" in name]
    names = [name for name in model.state_dict() if "embed_tokens" in name]
    assert names == ["embeddings.embed_tokens.weight"]
    assert model.generator.embeddings is None
    seen = []
    hook = model.embeddings.register_forward_hook(lambda module, inputs, out: seen.append(module))
    model(**make_batch())
    hook.remove()
    assert seen == [model.embeddings] * 2
    assert len(tables) > 0


def test_untied_embeddings_are_two_storages(build_model):
    model = build_model(embedding_sharing="none")
    own, shared = model.generator.embeddings, model.embeddings
    assert own.embed_tokens.weight.data_ptr() != shared.embed_tokens.weight.data_ptr()
    model(**make_batch()).disc_logits.sum().backward()
    assert shared.embed_tokens.weight.grad is not None
    assert own.embed_tokens.weight.grad is None


def test_no_gradient_from_the_discriminator_into_the_generator(build_model):
    model = build_model()
    model(**make_batch()).disc_logits.square().sum().backward()
    assert all(p.grad is None for p in model.generator.parameters())
    model.zero_grad()
    model(**make_batch()).gen_logits.square().sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters())
    assert model.embeddings.embed_tokens.weight.grad is not None


def test_a_sampled_padding_symbol_is_a_token_for_the_discriminator(build_model):
    """Padding is where the originals are padded, not where the generator says so."""
    model = build_model().eval()
    batch = make_batch()
    plain = model(**batch, sampled_tokens=torch.tensor([[11, 12], [13, 0]]))
    padded = model(**batch, sampled_tokens=torch.tensor([[1, 12], [13, 0]]))
    assert padded.corrupted_tokens[0, 1] == 1
    assert padded.is_replaced[0, 1]
    changed = (plain.disc_logits - padded.disc_logits).abs()[0]
    assert (changed > 0).all()  # every position of the sentence attends to the sampled symbol


def test_disallow_correct_never_samples_the_original(build_model):
    for seed in range(5):
        model = build_model(disallow_correct=True, seed=seed)
        output = model(**make_batch())
        assert not (output.sampled_tokens == output.gen_targets).any()


def test_temperature_reaches_the_sampler(build_model):
    batch = make_batch()
    cold = build_model(temperature=1e-6)
    output = cold(**batch)
    assert torch.equal(output.sampled_tokens, output.gen_logits.argmax(-1))


def test_fused_and_reference_attention_agree(build_model):
    fused, reference = build_model(attention="fused"), build_model(attention="reference")
    batch = make_batch()
    is_token = batch["src_tokens"].ne(fused.pad_idx)  # what is computed of padding means nothing
    ours, plain = fused(**batch)._asdict(), reference(**batch)._asdict()
    assert not is_token.all()
    for name, tensor in plain.items():
        if tensor is None:  # of the other stage
            continue
        where = is_token if tensor.shape[:2] == is_token.shape else ...
        torch.testing.assert_close(ours[name][where], tensor[where], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("embed_dim", "size", "heads"), [(768, 0.3, None), (256, 0.001, None), (256, 0.25, 3)]
)
def test_a_generator_without_whole_heads_is_refused(embed_dim, size, heads):
    cfg = ElectraConfig(
        encoder_embed_dim=embed_dim, generator_size=size, generator_attention_heads=heads
    )
    with pytest.raises(ValueError, match="--generator-size"):
        generator_encoder_size(cfg)


@pytest.mark.parametrize(
    ("hidden", "size", "generator"),
    [
        *((256, 1 / 4, 64), (768, 1 / 3, 256), (1024, 1 / 4, 256), (128, 1 / 2, 64)),
        *((192, 1 / 3, 64), (512, 1 / 4, 128), (2, 1 / 3, 1), (96, 1 / 3, 32)),
    ],
)
def test_a_new_generator_has_heads_of_64_where_a_share_gives_them(hidden, size, generator):
    assert usual_generator_size(hidden) == size
    cfg = ElectraConfig(encoder_embed_dim=hidden, generator_size=size)
    assert generator_encoder_size(cfg).hidden == generator


def test_a_generators_own_sizes_win_over_the_rule(build_model):
    own = {"generator_layers": 1, "generator_ffn_embed_dim": 24, "generator_attention_heads": 4}
    generator = build_model(**own).generator
    assert len(generator.encoder.layers) == 1
    assert generator.encoder.layers[0].fc1.weight.shape == (24, 16)
    assert generator.encoder.layers[0].self_attn.heads == 4


def test_heads_that_do_not_divide_are_refused():
    cfg = ElectraConfig(encoder_embed_dim=100, encoder_attention_heads=3)
    with pytest.raises(ValueError, match="--encoder-attention-heads 3"):
        discriminator_encoder_size(cfg)


def test_a_dictionary_without_mask_is_refused(build_model):
    from fairseq.data import Dictionary

    with pytest.raises(ValueError, match="no <mask>"):
        build_model(dictionary=Dictionary())


def test_tokens_per_sample_above_the_positions_is_refused(build_model):
    model = build_model(max_positions=4)
    with pytest.raises(ValueError, match="--max-positions"):
        model(**make_batch())


def test_without_pretraining_there_is_an_encoder_with_heads(build_model):
    model = build_model(pretrain=False).eval()
    model.register_classification_head("sentence", num_classes=3)
    tokens = make_batch()["src_tokens"]
    logits, _ = model(tokens, features_only=True, classification_head_name="sentence")
    features, extra = model(tokens, src_lengths=torch.tensor([6, 4]), return_all_hiddens=True)
    assert logits.shape == (2, 3)
    assert features.shape == (2, 6, 32)
    assert [hidden.shape for hidden in extra["inner_states"]] == [(2, 6, 32)] * 3
    assert model.generator is None
    assert model.discriminator_head is None


def test_a_head_sees_two_sentences_where_the_data_knows_no_token_types(build_model):
    model = build_model(pretrain=False).eval()
    model.register_classification_head("sentence", num_classes=3)
    tokens = torch.tensor([[0, 7, 2, 8, 9, 2], [0, 7, 2, 9, 2, 1]])
    types = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0]])
    logits, _ = model(tokens, classification_head_name="sentence")
    given, _ = model(tokens, token_types=types, classification_head_name="sentence")
    none, _ = model(tokens, token_types=types * 0, classification_head_name="sentence")
    torch.testing.assert_close(logits, given)
    assert not torch.allclose(logits, none)


def test_the_encoder_after_pretraining_is_the_discriminators(build_model):
    pretrained = build_model().eval()
    batch = make_batch()
    output = pretrained(**batch)
    fine_tuned = build_model(pretrain=False, seed=2).eval()
    fine_tuned.register_classification_head("sentence", num_classes=3)
    fine_tuned.load_state_dict(pretrained.state_dict(), strict=True)
    features, _ = fine_tuned(output.corrupted_tokens)
    # the padding of the corrupted tokens is that of the originals here
    torch.testing.assert_close(pretrained.discriminator_head(features), output.disc_logits)


def test_a_checkpoint_of_another_dictionary_is_refused(build_model):
    state = build_model(make_dictionary(40)).state_dict()
    with pytest.raises(ValueError, match=r"45 entries.*50"):
        build_model(make_dictionary(45)).load_state_dict(state)
    no_mask = make_dictionary(39)
    with pytest.raises(ValueError, match="no row for <mask>"):
        build_model(make_dictionary(40)).load_state_dict(build_model(no_mask).state_dict())
    swapped = make_dictionary(40)
    swapped.symbols[5], swapped.symbols[6] = swapped.symbols[6], swapped.symbols[5]
    assert fingerprint(swapped) != fingerprint(make_dictionary(40))
    with pytest.raises(ValueError, match="not the same ones in the same order"):
        build_model(swapped).load_state_dict(state)


def test_heads_that_do_not_fit_are_left_as_built(build_model):
    trained = build_model(pretrain=False)
    trained.register_classification_head("sentence", num_classes=5)
    model = build_model(pretrain=False, seed=3)
    model.register_classification_head("sentence", num_classes=2)
    own = model.classification_heads["sentence"].out_proj.weight.clone()
    model.load_state_dict(trained.state_dict(), strict=True)
    assert torch.equal(model.classification_heads["sentence"].out_proj.weight, own)
    torch.testing.assert_close(
        model.encoder.layers[0].fc1.weight, trained.encoder.layers[0].fc1.weight
    )


def test_initial_weights(build_model):
    model = ElectraModel(config_of("electra_tiny"), make_dictionary(2000), pretrain=True)
    table = model.embeddings.embed_tokens.weight
    assert table.abs().max().item() <= 0.04
    assert table.std().item() == pytest.approx(0.0176, rel=0.02)  # 0.02 cut at two deviations
    assert model.encoder.layers[0].fc1.bias.abs().max() == 0
    glorot = (6 / (128 + 1)) ** 0.5
    last = model.discriminator_head.out_proj.weight
    assert 0.8 * glorot < last.abs().max().item() <= glorot
    projection = model.generator.encoder.embeddings_project.weight
    assert 0.95 * (6 / (128 + 64)) ** 0.5 < projection.abs().max().item() <= (6 / (128 + 64)) ** 0.5


def test_weight_init_fan_in(build_model):
    """One over the root of the inputs, but for Glorot's matrices and the tables."""
    sizes = {"encoder_embed_dim": 128, "encoder_ffn_embed_dim": 256, "embedding_size": 64}
    usual = build_model(**sizes).state_dict()
    for name, weights in build_model(weight_init="fan-in", **sizes).state_dict().items():
        is_glorot = "embeddings_project" in name or "discriminator_head.out_proj" in name
        if is_glorot or "embed_" in name or weights.dim() < 2:
            assert torch.equal(weights, usual[name]), name
            continue
        # cut at two, a normal keeps 0.88 of its std
        assert weights.std() * weights.size(1) ** 0.5 == pytest.approx(0.88, rel=0.05), name
        assert usual[name].std() == pytest.approx(0.88 * 0.02, rel=0.05), name


@pytest.mark.parametrize("attention", ["fused", "reference"])
def test_a_head_reads_the_mean_of_the_tokens_but_padding(build_model, attention):
    model = build_model(pretrain=False, pooling="mean", attention=attention).eval()
    model.register_classification_head("topic", 3)
    tokens = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1]])
    logits, _ = model(tokens, classification_head_name="topic")
    features = model(tokens[1:, :3])[0].mean(1)
    expected = model.classification_heads["topic"].out_proj(features)
    torch.testing.assert_close(logits[1:], expected, rtol=1e-4, atol=1e-5)
    usual = build_model(pretrain=False).eval()
    usual.register_classification_head("topic", 3)
    usual.load_state_dict(model.state_dict())
    logits, _ = usual(tokens, classification_head_name="topic")
    expected = usual.classification_heads["topic"].out_proj(usual(tokens)[0][:, 0])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_compile_of_a_masked_language_model_is_told(caplog, dictionary):
    task = Namespace(source_dictionary=dictionary)
    ElectraMaskedLM.build_model(ElectraConfig(**TINY), task)
    assert "--compile" not in caplog.text
    ElectraMaskedLM.build_model(ElectraConfig(**TINY, compile="default"), task)
    assert "--compile is for --task electra alone: electra_mlm is not compiled" in caplog.text
