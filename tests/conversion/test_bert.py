"""Hugging Face's BERT as a discriminator: features, words, what is taken and what refused."""

import json
import shutil
import sys

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra hf")

from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM, BertForPreTraining, BertModel

from fairseq_electra import hub
from fairseq_electra.conversion.__main__ import main
from fairseq_electra.conversion.bert import import_bert
from fairseq_electra.models.electra import ElectraModel
from foreign import TEXTS, VOCABULARY, edit_config, edit_tensors, fill_randomly, save

CONVERT = (sys.executable, "-m", "fairseq_electra.conversion", "import-bert")
# as from_pretrained says a network: its class, hidden size, layers, heads, FFN, positions
SHAPES = [
    (BertModel, 24, 1, 3, 40, 40),
    (BertModel, 64, 3, 2, 256, 24),
    (BertForMaskedLM, 32, 2, 4, 64, 32),
    (BertForPreTraining, 32, 1, 1, 128, 33),
]
SPECIAL = {"[CLS]": "<s>", "[PAD]": "<pad>", "[SEP]": "</s>", "[UNK]": "<unk>", "[MASK]": "<mask>"}


def make_bert(cls=BertForMaskedLM, hidden=32, layers=2, heads=4, ffn=64, positions=32):
    """A random BERT of transformers, in evaluation mode."""
    model = cls(
        BertConfig(
            vocab_size=len(VOCABULARY),
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            intermediate_size=ffn,
            max_position_embeddings=positions,
        )
    )
    fill_randomly(model, 4)
    return model.eval()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder of a small BERT."""
    return save(make_bert(), tmp_path_factory.mktemp("small") / "bert")


@pytest.fixture
def folder(small, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(small, tmp_path / "bert")


def convert(folder):
    """Our model in evaluation mode, its dictionary, its tokenizer and what is said of it."""
    converted, tokenizer = import_bert(folder, None)
    model = ElectraModel(converted.cfg, converted.dictionary, pretrain=True)
    model.load_state_dict(converted.tensors)
    model.eval()
    return model, converted.dictionary, tokenizer, converted.notes


def compare(theirs, tokenizer, model, dictionary):
    """Features of padded pairs of texts, with both token types, at every token."""
    pairs = (TEXTS, [*TEXTS[1:], TEXTS[0]])
    batch = tokenizer(*pairs, padding=True, truncation=True, max_length=24, return_tensors="pt")
    attended = batch["attention_mask"].bool()
    assert set(batch["token_type_ids"][attended].tolist()) == {0, 1} and not attended.all()
    names = tokenizer.convert_ids_to_tokens(batch["input_ids"].flatten().tolist())
    assert {"[UNK]", "[PAD]", "cafe", "中"} <= set(names)
    tokens = torch.tensor([dictionary.index(SPECIAL.get(name, name)) for name in names])
    tokens = tokens.view_as(batch["input_ids"])
    with torch.no_grad():
        expected = theirs.base_model(**batch).last_hidden_state
        features, _ = model.encode(tokens, token_types=batch["token_type_ids"])
    torch.testing.assert_close(features[attended], expected[attended], rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_bert_s(shape, tmp_path):
    theirs = make_bert(*shape)
    bert = save(theirs, tmp_path / "bert")
    has_prefix = "bert.embeddings.LayerNorm.bias" in load_file(bert / "model.safetensors")
    assert has_prefix == (shape[0] is not BertModel)
    model, dictionary, _, _ = convert(bert)
    assert model.max_positions() == shape[-1]
    compare(theirs, AutoTokenizer.from_pretrained(bert), model, dictionary)


def test_names_of_the_first_files(folder):
    """LayerNorm's gamma and beta, a buffer, a config.json without its model; an untied head."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    old = {"bert.embeddings.position_ids": torch.arange(32)[None]}
    for name, tensor in load_file(folder / "model.safetensors").items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old[name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    save_file(old, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    del config["model_type"]
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    compare(make_bert(), tokenizer, *convert(folder)[:2])


def test_what_was_taken_is_listed(tmp_path, capsys):
    bert = save(make_bert(BertForPreTraining), tmp_path / "bert")
    main(["import-bert", str(bert), "--generator-size", "0.5", str(tmp_path / "ours")])
    printed = capsys.readouterr().out.splitlines()
    for name in load_file(bert / "model.safetensors"):
        is_taken = name.startswith(("bert.embeddings.", "bert.encoder."))
        assert (f"not taken from {bert}: {name}" in printed) != is_taken
    assert (
        "cls.predictions, the MLM head, reads BERT's features: the new generator has an encoder "
        "and a head of its own"
    ) in printed
    assert "taken: 29 of the model's 64 tensors" in printed
    assert "new, from random weights: generator" in printed
    assert "new, from random weights: discriminator_head" in printed
    assert not any("zero" in line for line in printed)
    assert (
        "sizes: --arch electra --encoder-layers 2 --encoder-embed-dim 32 "
        "--encoder-ffn-embed-dim 64 --encoder-attention-heads 4 --embedding-size 32 "
        "--generator-size 0.5 --max-positions 32"
    ) in printed
    files = {path.name for path in (tmp_path / "ours").iterdir()}
    assert files == {"checkpoint.pt", "dict.txt", "tokenizer_info.json", "vocab.txt"}


@pytest.mark.parametrize("as_json", [False, True])
def test_the_tokenizer_comes_along(folder, as_json):
    """One that keeps upper case, which is not BERT's default, as both kinds of files."""
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    theirs = AutoTokenizer.from_pretrained(folder)
    if as_json:
        theirs.save_pretrained(folder)
        (folder / "vocab.txt").unlink()
    model, dictionary, tokenizer, _ = convert(folder)
    assert tokenizer.cased
    for text in TEXTS:
        names = theirs.convert_ids_to_tokens(theirs(text, split_special_tokens=True)["input_ids"])
        assert ["<s>", *tokenizer.encode(text), "</s>"] == [
            SPECIAL.get(name, name) for name in names
        ]
    table = model.embeddings.embed_tokens.weight
    rows = load_file(folder / "model.safetensors")["bert.embeddings.word_embeddings.weight"]
    for theirs, name in SPECIAL.items():
        assert torch.equal(table[dictionary.index(name)], rows[VOCABULARY.index(theirs)])


def test_raw_text_to_a_pre_training_that_goes_on(folder, run_command, tmp_path):
    """Real commands: import-bert, prepare-data, fairseq-train with the sizes that were printed."""
    done = run_command(*CONVERT, folder, tmp_path / "ours")
    (sizes,) = [line for line in done.output.splitlines() if line.startswith("sizes: ")]
    (tmp_path / "text").write_text(f"{TEXTS[0]} A meal, a cafe!\n\n" * 200, encoding="utf-8")
    run_command(
        *(sys.executable, "-m", "fairseq_electra", "prepare-data", tmp_path / "bin"),
        *(tmp_path / "text", "--tokenizer", tmp_path / "ours", "--workers", 1),
    )
    done = run_command(
        *(sys.executable, "-m", "fairseq_cli.train", tmp_path / "bin", "--cpu"),
        *("--user-dir", "fairseq_electra", "--task", "electra", "--criterion", "electra"),
        *(*sizes.split()[1:], "--restore-file", tmp_path / "ours/checkpoint.pt"),
        *("--optimizer", "electra_adam", "--lr-scheduler", "electra_decay", "--lr", "1e-4"),
        *("--max-update", 2, "--tokens-per-sample", 32, "--batch-size", 4, "--num-workers", 0),
        *("--save-dir", tmp_path / "more"),
    )
    assert "Loaded checkpoint" in done.output
    start = torch.load(tmp_path / "ours/checkpoint.pt", weights_only=True)["model"]
    more = hub.load(tmp_path / "more", device="cpu").model.state_dict()
    name = "encoder.layers.1.fc1.weight"
    assert 0 < (more[name] - start[name]).abs().max() < 0.01  # else it would be another start


# --- what is refused ---


def refuse(folder, out, message):
    with pytest.raises(SystemExit, match=message) as error:
        main(["import-bert", str(folder), str(out)])
    assert str(error.value).startswith("fairseq-electra import-bert: ")
    assert "\n" not in str(error.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, r"bert holds a model roberta, not bert \(model_type in conf"),
        ({"model_type": "electra"}, "holds a model electra, not bert .*: import-hf takes it"),
        ({"model_type": "albert"}, "holds a model albert, not bert"),
        ({"model_type": ["bert"]}, r"holds a model \['bert'\], not bert"),
        ({"hidden_act": "gelu_new"}, "hidden_act is gelu_new; only gelu"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05; only 1e-12"),
        ({"type_vocab_size": 1}, "type_vocab_size is 1; only 2"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is relative_key"),
        ({"is_decoder": True}, "is_decoder is True; only False"),
        ({"add_cross_attention": True}, "add_cross_attention is True; only False"),
        ({"vocab_size": 96}, r"has \d+ entries, .* vocab_size 96; .*resize_token_embeddings"),
        ({"num_attention_heads": 5}, "--encoder-attention-heads 5 does not divide"),
        ({"num_hidden_layers": "2"}, r"config\.json: num_hidden_layers, here --encoder-layers"),
        ({"num_hidden_layers": 1}, r"unknown tensors bert\.encoder\.layer\.1\."),
        ({"max_position_embeddings": 16}, r"bert\.embeddings\.position_embeddings\.weight is 32 x"),
    ],
)
def test_other_configurations(folder, tmp_path, changes, message):
    edit_config(folder, **changes)
    refuse(folder, tmp_path / "out", message)


def test_tensors_that_do_not_fit_are_named(folder, tmp_path):
    edit_tensors(
        folder,
        bert__extra__weight=torch.ones(2),
        bert__encoder__layer__1__output__LayerNorm__bias=None,
    )
    refuse(
        folder,
        tmp_path / "out",
        r"missing tensors bert\.encoder\.layer\.1\.output\.LayerNorm\.bias; "
        r"unknown tensors bert\.extra\.weight$",
    )
    edit_tensors(folder, bert__embeddings__word_embeddings__weight=None)
    refuse(
        folder,
        tmp_path / "out",
        r"model\.safetensors has no bert\.embeddings\.word_embeddings\.weight and no "
        r"embeddings\.word_embeddings\.weight: it begins with bert\.embeddings\.LayerNorm\.bias",
    )
    name = "distilbert__embeddings__word_embeddings__weight"
    edit_tensors(folder, **{name: torch.ones(2)})
    refuse(folder, tmp_path / "out", r"its word table is distilbert\.embeddings\.word_emb.*layout$")


def test_folders_that_lack_files(folder, tmp_path):
    weights = folder / "model.safetensors"
    weights.rename(folder / "pytorch_model.bin")
    refuse(folder, tmp_path / "out", r"pytorch_model\.bin is not read.*save_pretrained\(DIR")
    (folder / "model.safetensors.index.json").write_text("{}")
    refuse(folder, tmp_path / "out", "its weights are in several files; load it with transformers")
    (folder / "config.json").unlink()
    refuse(folder, tmp_path / "out", r"bert has no config\.json")
    refuse(tmp_path / "nowhere", tmp_path / "out", "nowhere: no such folder")


def test_vocabularies_that_cannot_be_used(folder, tmp_path):
    config = folder / "tokenizer_config.json"
    config.write_text('{"word_tokenizer_type": "mecab"}')
    refuse(folder, tmp_path / "out", r"tokenizer_config\.json: word_tokenizer_type is mecab, not b")
    AutoTokenizer.from_pretrained(folder, do_lower_case=False).save_pretrained(folder)
    config.write_text('{"do_lower_case": true}')
    refuse(folder, tmp_path / "out", "has lowercase False, .* has do_lower_case True: change the")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").unlink()
    refuse(folder, tmp_path / "out", r"bert has neither tokenizer\.json nor vocab\.txt")


def test_folders_of_sentence_transformers(folder, tmp_path):
    """The network's folder is named where it lies inside; what follows on it is listed."""
    modules = [{"path": "", "type": "Transformer"}, {"path": "1_Pooling", "type": "Pooling"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    assert f"not taken from {folder}: 1_Pooling (modules.json)" in convert(folder)[-1]
    outer = tmp_path / "outer"
    outer.mkdir()
    folder.rename(outer / "0_Transformer")
    modules[0]["path"] = "0_Transformer"
    (outer / "modules.json").write_text(json.dumps(modules))
    inner = outer / "0_Transformer"
    refuse(outer, tmp_path / "out", f"is of sentence-transformers .*inside: name {inner}$")
    (outer / "modules.json").write_text('["a"]')
    refuse(outer, tmp_path / "out", r"outer/modules\.json is damaged")
