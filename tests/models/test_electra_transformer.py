"""ELECTRA's encoder before fairseq's decoder: its start, its decoding, fairseq's commands on it."""

import sys
from types import SimpleNamespace

import pytest
import torch
from fairseq import options
from fairseq.data import Dictionary

from fairseq_electra.models.electra_transformer import ElectraTransformer, ElectraTransformerConfig
from fairseq_electra.text.data_bin import binarize
from tiny import TINY, USER_DIR, make_dictionary

SIZES = {name: value for name, value in TINY.items() if name != "generator_size"}
DECODER = {"decoder_layers": 2, "max_target_positions": 32}
PAD, EOS = 1, 2


def make_task_dictionary(words=40) -> Dictionary:
    """As the translation task loads it: without `<mask>`."""
    dictionary = Dictionary()
    for symbol in make_dictionary(words).symbols[4:-1]:
        dictionary.add_symbol(symbol)
    return dictionary


@pytest.fixture
def build():
    """A function that builds a tiny model in evaluation mode, with options by keyword."""

    def build(dictionary=None, **changed) -> ElectraTransformer:
        torch.manual_seed(2)
        cfg = ElectraTransformerConfig(**{**SIZES, **DECODER, **changed})
        task = SimpleNamespace(source_dictionary=dictionary or make_task_dictionary())
        task.target_dictionary = task.source_dictionary
        return ElectraTransformer.build_model(cfg, task).eval()

    return build


def pad(rows, left):
    """Token lists -> (B, T)."""
    most = max(map(len, rows))
    return torch.tensor(
        [[PAD] * (most - len(r)) + r if left else r + [PAD] * (most - len(r)) for r in rows]
    )


TEXTS = [[5, 6, 7, EOS], [9, 8, 7, 6, 5, 11, EOS], [30, EOS]]


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("attention", ["fused", "reference"])
def test_features_are_those_of_electra(build_model, build, attention, left):
    """Of `<s> text </s>` without padding; the pre-training's dictionary has `<mask>`."""
    electra = build_model(attention=attention).eval()
    model = build(attention=attention)
    model.load_state_dict(electra.state_dict())
    out = model.encoder(pad(TEXTS, left))
    features, padding_mask = out["encoder_out"][0].transpose(0, 1), out["encoder_padding_mask"][0]
    assert features.shape == (3, 7, 32) and padding_mask.equal(pad(TEXTS, left).eq(PAD))
    for row, text in enumerate(TEXTS):
        expected, _ = electra(torch.tensor([[0, *text]]))
        torch.testing.assert_close(features[row][~padding_mask[row]], expected[0, 1:])


def test_one_table_of_words_is_started_and_trained(build_model, build):
    electra, model = build_model(), build()
    before = model.decoder.layers[0].fc1.weight.clone()
    model.load_state_dict(electra.state_dict())
    words = model.encoder.embeddings.embed_tokens.weight
    assert words is model.decoder.embed_tokens.weight
    assert words is model.decoder.output_projection.weight
    assert words.equal(electra.embeddings.embed_tokens.weight[:-1])  # without <mask>
    assert before.equal(model.decoder.layers[0].fc1.weight)


def test_a_row_for_mask_is_added_where_the_checkpoint_has_none(build):
    small, large = build(), build(make_dictionary())
    tensors = small.encoder.state_dict()
    large.load_state_dict(tensors)
    words = large.encoder.embeddings.embed_tokens.weight
    assert len(words) == 45 and words[:-1].equal(small.encoder.embeddings.embed_tokens.weight)
    assert words[-1].abs().sum() > 0


@pytest.mark.parametrize("normalize_before", [True, False])
def test_decoding_step_by_step_is_decoding_at_once(build, normalize_before):
    model = build(decoder_normalize_before=normalize_before, decoder_embed_dim=48)
    encoder_out = model.encoder(pad(TEXTS, left=True))
    target = torch.tensor([[EOS, 5, 6, 7, 8], [EOS, 9, 9, 4, 30], [EOS, 12, 13, 14, 15]])
    at_once, _ = model.decoder(target, encoder_out)
    assert at_once.shape == (3, 5, 44)
    state = {}
    for step in range(1, 6):
        logits, _ = model.decoder(target[:, :step], encoder_out, incremental_state=state)
        torch.testing.assert_close(logits[:, -1], at_once[:, step - 1])


def test_the_encoder_s_output_follows_the_beams(build):
    encoder = build().encoder
    order = torch.tensor([2, 2, 0])
    moved = encoder.reorder_encoder_out(encoder(pad(TEXTS, left=True)), order)
    expected = encoder(pad(TEXTS, left=True)[order])
    torch.testing.assert_close(moved["encoder_out"][0], expected["encoder_out"][0])
    assert moved["encoder_padding_mask"][0].equal(expected["encoder_padding_mask"][0])


def test_another_dictionary_is_refused(build_model, build):
    electra, model = build_model(), build()
    with pytest.raises(ValueError, match=r"another dictionary: it has 45 entries, .* has 34"):
        build(make_task_dictionary(30)).load_state_dict(electra.state_dict())
    renamed = make_task_dictionary(39)
    renamed.add_symbol("other")
    for tensors in (electra.state_dict(), model.state_dict()):
        with pytest.raises(ValueError, match=r"another dictionary.*prepare the data with its dict"):
            build(renamed).load_state_dict(dict(tensors))


def test_two_dictionaries_are_refused():
    task = SimpleNamespace(source_dictionary=make_task_dictionary(30))
    task.target_dictionary = make_task_dictionary()
    cfg = ElectraTransformerConfig(**SIZES, **DECODER)
    with pytest.raises(ValueError, match=r"one table for both: .* prepare-pairs"):
        ElectraTransformer.build_model(cfg, task)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"decoder_layers": 0}, "--decoder-layers must be from 1 to 1000, not 0"),
        ({"decoder_embed_dim": -8}, "--decoder-embed-dim must be from 1 "),
        ({"decoder_attention_heads": 3}, "heads 3 does not divide --decoder-embed-dim 32"),
        ({"encoder_attention_heads": 3}, "heads 3 does not divide --"),
        ({"dropout": 1.0}, "--dropout must be from 0 to below 1"),
    ],
)
def test_options_without_meaning_are_named(build, changed, message):
    with pytest.raises(ValueError, match=message):
        build(**changed)


def test_options_of_pre_training_are_unknown(capsys):
    command = ["data", "--arch", "electra_transformer_tiny", "--task", "translation"]
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, [*command, "--decoder-layers", "3"])
    assert (args.encoder_layers, args.embedding_size, args.decoder_layers) == (4, 128, 3)
    with pytest.raises(SystemExit):
        options.parse_args_and_arch(options.get_training_parser(), [*command, "--mlm-updates", "2"])
    assert "unrecognized arguments: --mlm-updates" in capsys.readouterr().err


@pytest.fixture(scope="module")
def pairs(data_bin, tmp_path_factory):
    """Texts to be copied, in the words of `data_bin`."""
    folder = tmp_path_factory.mktemp("pairs")
    for split, count in (("train", 40), ("valid", 8), ("test", 8)):
        lines = "".join(f"w{n % 12} w{n % 5} w{n % 7}{' w1' * (n % 3)}\n" for n in range(count))
        for side in ("src", "tgt"):
            (folder / f"{split}.{side}").write_text(lines)
    binarize(folder, data_bin / "dict.txt", folder / "bin", 1, ("src", "tgt"))
    return folder / "bin"


def test_fairseq_s_commands(data_bin, pairs, train_electra, run_command, tmp_path):
    """Train from an ELECTRA, go on and generate when that one is gone."""
    train_electra(data_bin, tmp_path / "electra", "--max-update", 2, "--disable-validation")
    electra = tmp_path / "electra" / "checkpoint_last.pt"
    words = torch.load(electra, weights_only=True)["model"]["embeddings.embed_tokens.weight"]
    sizes = [("--" + name.replace("_", "-"), value) for name, value in {**SIZES, **DECODER}.items()]

    def train(updates):
        return run_command(
            *(sys.executable, "-m", "fairseq_cli.train", pairs, "--user-dir", USER_DIR, "--cpu"),
            *("--task", "translation", "--criterion", "label_smoothed_cross_entropy"),
            *("--label-smoothing", 0.1, "--arch", "electra_transformer_tiny"),
            *(part for pair in sizes for part in pair),
            *("--optimizer", "adam", "--lr", 1e-9, "--batch-size", 8, "--num-workers", 0),
            *("--finetune-from-model", electra, "--max-update", updates),
            *("--save-dir", tmp_path / "run", "--no-epoch-checkpoints", "--log-format", "simple"),
        ).output

    assert "not loaded (not of the encoder)" in train(2)
    electra.unlink()
    assert "num_updates: 3 >= max_update: 3" in train(3)
    trained = tmp_path / "run" / "checkpoint_last.pt"
    tensors = torch.load(trained, weights_only=True)["model"]
    assert torch.allclose(tensors["decoder.output_projection.weight"], words[:-1], atol=1e-6)
    done = run_command(
        *(sys.executable, "-m", "fairseq_cli.generate", pairs, "--user-dir", USER_DIR, "--cpu"),
        *("--path", trained, "--beam", 3, "--max-len-b", 6, "--batch-size", 4),
        *("--required-batch-size-multiple", 1),  # fairseq leaves texts out with its 8
    )
    hypotheses = [line for line in done.output.splitlines() if line.startswith("H-")]
    assert len(hypotheses) == 8
    assert "with beam=3: BLEU4" in done.output
