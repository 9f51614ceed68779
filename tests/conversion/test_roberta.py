"""fairseq's RoBERTa as a discriminator: the same features, and what is taken is listed."""

import sys
from argparse import Namespace

import pytest
import torch
from fairseq.models.roberta import RobertaModel, base_architecture

from fairseq_electra.conversion.__main__ import main
from fairseq_electra.models.electra import ElectraModel
from tiny import make_dictionary


class Task:
    source_dictionary = make_dictionary()


def make_roberta(folder, **options):
    """A random RoBERTa in evaluation mode, and its checkpoint in folder."""
    args = Namespace(
        arch="roberta",
        data=str(folder),
        encoder_layers=2,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=48,
        encoder_attention_heads=4,
        max_positions=20,
        tokens_per_sample=20,
        **options,
    )
    base_architecture(args)
    torch.manual_seed(5)
    model = RobertaModel.build_model(args, Task())
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    save(model.state_dict(), args, folder)
    (folder / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    return model.eval(), args


def save(tensors, args, folder):
    torch.save({"args": args, "cfg": None, "model": tensors}, folder / "roberta.pt")


def load(folder):
    hub = ElectraModel.from_pretrained(str(folder), checkpoint_file="checkpoint.pt")
    return hub.models[0]


TOKENS = torch.tensor([[0, 5, 6, 7, 8, 2], [0, 9, 10, 2, 1, 1]])


def test_features_are_roberta_s(tmp_path):
    theirs, _ = make_roberta(tmp_path)
    main(["import-roberta", str(tmp_path / "roberta.pt"), str(tmp_path / "ours")])
    ours = load(tmp_path / "ours")
    with torch.no_grad():
        expected = theirs(TOKENS, features_only=True)[0]
        close = ours(TOKENS)[0]
        for module in ours.modules():
            if isinstance(module, torch.nn.LayerNorm):
                module.eps = 1e-5
        same = ours(TOKENS)[0]
    attended = TOKENS.ne(1)
    torch.testing.assert_close(same[attended], expected[attended], rtol=0, atol=1e-5)
    torch.testing.assert_close(close[attended], expected[attended], rtol=0, atol=1e-2)


def test_what_was_taken_is_listed(tmp_path, capsys):
    make_roberta(tmp_path)
    options = ["--generator-size", "0.5"]
    main(["import-roberta", str(tmp_path / "roberta.pt"), *options, str(tmp_path / "ours")])
    printed = capsys.readouterr().out.splitlines()
    for name in ("dense.weight", "dense.bias", "layer_norm.weight", "weight", "bias"):
        assert f"not taken: encoder.lm_head.{name}" in printed
    assert "zero: embeddings.embed_token_types.weight" in printed
    assert "new, from random weights: generator" in printed
    assert "new, from random weights: discriminator_head" in printed
    assert load(tmp_path / "ours").max_positions() == 20


def test_names_of_old_checkpoints(tmp_path):
    """Before 0.10: "decoder", emb_layer_norm, and query, key and value stacked."""
    model, args = make_roberta(tmp_path)
    main(["import-roberta", str(tmp_path / "roberta.pt"), str(tmp_path / "new")])
    old = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("encoder.sentence_encoder", "decoder.sentence_encoder")
        old[name.replace("layernorm_embedding", "emb_layer_norm")] = tensor
    for name in [name for name in old if ".q_proj." in name]:
        end = name.rpartition(".")[2]
        parts = [old.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
        old[name.replace(f"q_proj.{end}", f"in_proj_{end}")] = torch.cat(parts)
    save(old, args, tmp_path)
    main(["import-roberta", str(tmp_path / "roberta.pt"), str(tmp_path / "old")])
    new, old = load(tmp_path / "new").state_dict(), load(tmp_path / "old").state_dict()
    assert all(torch.equal(new[name], old[name]) for name in new)


def refuse(tmp_path, message):
    with pytest.raises(SystemExit, match=message):
        main(["import-roberta", str(tmp_path / "roberta.pt"), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder_normalize_before": True}, "--encoder-normalize-before has no equivalent"),
        ({"activation_fn": "relu"}, "--activation-fn relu; only gelu"),
    ],
)
def test_other_kinds_are_refused(tmp_path, options, message):
    make_roberta(tmp_path, **options)
    refuse(tmp_path, message)


def test_tensors_that_do_not_fit_are_named(tmp_path):
    model, args = make_roberta(tmp_path)
    tensors = dict(model.state_dict())
    del tensors["encoder.sentence_encoder.layers.1.self_attn.k_proj.bias"]
    tensors["encoder.sentence_encoder.layers.0.fc1.bias"] = torch.ones(3)
    tensors["encoder.more"] = torch.ones(3)
    save(tensors, args, tmp_path)
    refuse(
        tmp_path,
        r"missing encoder\.layers\.1\.self_attn\.qkv_proj\.bias; unknown encoder\.layers\.1\."
        r"self_attn\.q_proj\.bias; .*unknown encoder\.more; encoder\.layers\.0\.fc1\.bias is 3, "
        "not 48",
    )
    args.arch = "bart_base"
    save(tensors, args, tmp_path)
    refuse(tmp_path, "holds a model bart_base, not roberta")


def test_another_dictionary_is_refused(tmp_path):
    make_roberta(tmp_path)
    (tmp_path / "dict.txt").write_text("a 1\n")
    refuse(tmp_path, r"embeddings\.embed_tokens\.weight is 45 x 32, not 6 x 32")


def test_a_trained_roberta_goes_on_as_electra(data_bin, train_electra, run_command, tmp_path):
    """Real commands: fairseq-train, import-roberta, fairseq-train."""
    sizes = ["--encoder-layers", 2, "--encoder-embed-dim", 32, "--encoder-ffn-embed-dim", 64]
    sizes += ["--encoder-attention-heads", 2, "--max-positions", 32]
    run_command(
        *(sys.executable, "-m", "fairseq_cli.train", data_bin, "--cpu", "--task", "masked_lm"),
        *("--criterion", "masked_lm", "--arch", "roberta", *sizes, "--tokens-per-sample", 32),
        *("--optimizer", "adam", "--lr", "1e-3", "--batch-size", 8, "--max-update", 2),
        *("--num-workers", 0, "--save-dir", tmp_path / "roberta"),
    )
    checkpoint = tmp_path / "roberta/checkpoint_last.pt"
    convert = (sys.executable, "-m", "fairseq_electra.conversion", "import-roberta")
    done = run_command(*convert, checkpoint, "--generator-size", 0.5, tmp_path / "ours")
    assert "new, from random weights: generator\n" in done.output
    done = train_electra(
        *(data_bin, tmp_path / "electra", "--restore-file", tmp_path / "ours/checkpoint.pt"),
        *("--embedding-size", 32),
    )
    assert "Loaded checkpoint" in done.output
    assert (tmp_path / "electra/checkpoint_last.pt").is_file()
