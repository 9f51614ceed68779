"""Hugging Face's ELECTRA here and back: names, bits, ids, logits, losses."""

import json
import shutil

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra hf")

from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForSequenceClassification,
)

from fairseq_electra.conversion.__main__ import main
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.conversion.hf_export import double_head
from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.tokenizer import load_tokenizer
from fairseq_electra.models.electra import ElectraConfig, ElectraModel
from foreign import SHAPES, TEXTS, VOCABULARY, edit_config, make_pair, save
from tiny import TINY, make_dictionary

SMALLEST = SHAPES[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Folders of a discriminator and a generator."""
    folder = tmp_path_factory.mktemp("pair")
    discriminator, generator = make_pair(SMALLEST)
    return save(discriminator, folder / "d"), save(generator, folder / "g")


@pytest.fixture
def copies(pair, tmp_path):
    """The same, to be changed."""
    return [shutil.copytree(folder, tmp_path / folder.name) for folder in pair]


def load(folder):
    """Our model and task, as a user of fairseq loads them."""
    hub = ElectraModel.from_pretrained(str(folder), checkpoint_file="checkpoint.pt")
    return hub.models[0], hub.task  # in evaluation mode


def read_state(path):
    return torch.load(path, weights_only=True)


def encode(folder, task, text):
    """Our ids of a text with <s> and </s>."""
    pieces = load_tokenizer(folder).encode(text)
    numbers = [task.source_dictionary.index(piece) for piece in pieces]
    return [task.source_dictionary.bos(), *numbers, task.source_dictionary.eos()]


def pad(rows, value):
    longest = max(map(len, rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


CASES = [*((shape, False) for shape in SHAPES), *((shape, True) for shape in SHAPES[1:4])]


@pytest.mark.parametrize(("shape", "is_untied"), CASES)
def test_text_in_ids_and_logits_out_and_every_bit_back(shape, is_untied, tmp_path):
    """Padded texts with token types through both, then the same files again."""
    theirs = dict(zip(("discriminator", "generator"), make_pair(shape, is_untied=is_untied)))
    folders = {name: save(model, tmp_path / name) for name, model in theirs.items()}
    ours, back = tmp_path / "ours", tmp_path / "back"
    disc, gen = str(folders["discriminator"]), str(folders["generator"])
    main(["import-hf", disc, "--generator", gen, str(ours)])
    main(["export-hf", str(ours / "checkpoint.pt"), str(back)])
    for name, folder in folders.items():
        assert same_bits(folder / "model.safetensors", back / name / "model.safetensors")

    model, task = load(ours)
    tokenizer = AutoTokenizer.from_pretrained(back / "generator")
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch["token_type_ids"] = (
        torch.arange(batch["input_ids"].numel()).view_as(batch["input_ids"]) % 2
    )
    tokens = pad([encode(ours, task, text) for text in TEXTS], task.source_dictionary.pad())
    names = tokenizer.convert_ids_to_tokens(batch["input_ids"].flatten().tolist())
    special = {"[CLS]": "<s>", "[PAD]": "<pad>", "[SEP]": "</s>", "[UNK]": "<unk>"}
    assert [task.source_dictionary[i] for i in tokens.flatten()] == [
        special.get(name, name) for name in names
    ]
    assert {"<unk>", "<pad>", "中", "cafe"} <= {task.source_dictionary[i] for i in tokens.flatten()}

    types, padding = batch["token_type_ids"], tokens.eq(task.source_dictionary.pad())
    with torch.no_grad():
        disc_logits, _ = model.encode(tokens, token_types=types, features_only=False)
        every = torch.arange(tokens.size(1)).expand_as(tokens)
        gen_logits = model.generator(tokens, types, padding, every, model.embeddings)
        expected_disc = theirs["discriminator"](**batch).logits
        expected_gen = theirs["generator"](**batch).logits
    renamed = [{"[MASK]": "<mask>", **special}.get(word, word) for word in VOCABULARY]
    order = [task.source_dictionary.index(word) for word in renamed]
    close(disc_logits, expected_disc, ~padding)
    close(gen_logits[..., order], expected_gen, ~padding)


def close(ours, theirs, mask):
    torch.testing.assert_close(ours[mask], theirs[mask], rtol=1e-5, atol=1e-5)


def same_bits(one, other):
    one, other = load_file(one), load_file(other)
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("options", [{}, {"untie_embeddings": True}, {"embedding_size": 32}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_ours_to_hugging_face_and_back(build_model, tmp_path, options, dtype):
    """Every tensor, option and entry of the dictionary of a model of ours."""
    model = build_model(seed=3, **options).to(dtype)
    source = tmp_path / "source"
    source.mkdir()
    (source / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    cfg = ElectraConfig(**{**TINY, **options})
    write_checkpoint(source / "checkpoint.pt", cfg, model.state_dict(), source)
    main(["export-hf", str(source / "checkpoint.pt"), str(tmp_path / "hf")])
    disc, gen = (str(tmp_path / "hf" / name) for name in ("discriminator", "generator"))
    main(["import-hf", disc, "--generator", gen, str(tmp_path / "back")])
    before, after = (
        read_state(source / "checkpoint.pt"),
        read_state(tmp_path / "back/checkpoint.pt"),
    )
    assert list(before["model"]) == list(after["model"])
    for name, tensor in before["model"].items():
        assert tensor.dtype == after["model"][name].dtype
        assert torch.equal(tensor, after["model"][name]), name
    changed = {name: value for name, value in after["cfg"]["model"].items() if name != "data"}
    assert changed.items() <= before["cfg"]["model"].items()
    assert (tmp_path / "back/dict.txt").read_bytes() == (source / "dict.txt").read_bytes()
    for folder, kind in ((disc, ElectraForPreTraining), (gen, ElectraForMaskedLM)):
        _, info = kind.from_pretrained(folder, output_loading_info=True)
        assert not any(info.values()), info
    tokenizer = AutoTokenizer.from_pretrained(disc)
    expected = [make_dictionary().index(word) for word in ("w3", "w39", "<unk>")]
    assert tokenizer("w3  w39 w40")["input_ids"] == [0, *expected, 2]


def test_the_losses_are_those_of_transformers(pair, tmp_path):
    """A batch with its corruption: means over the picked, and over all tokens but padding."""
    main(["import-hf", str(pair[0]), "--generator", str(pair[1]), str(tmp_path / "ours")])
    model, task = load(tmp_path / "ours")
    dictionary = task.source_dictionary
    tokens = pad([encode(tmp_path / "ours", task, text) for text in TEXTS[:2]], dictionary.pad())
    picked = torch.tensor([[1, 3], [2, 5]])
    sample = {
        "net_input": {
            "src_tokens": tokens,
            "picked": picked,
            "picked_weights": torch.ones(2, 2),
            "becomes_mask": torch.tensor([[True, True], [True, False]]),
            "uniform": torch.full((2, 2), 0.5, dtype=torch.float64),
            "has_padding": True,
        },
        "nsentences": 2,
        "ntokens": int(tokens.ne(dictionary.pad()).sum()),
        "npicked": 4,
    }
    criterion = ElectraCriterion(ElectraCriterionConfig(), task)
    loss, sample_size, log = criterion(model, sample)
    output = model(**sample["net_input"])

    special = {"<s>": "[CLS]", "<pad>": "[PAD]", "</s>": "[SEP]", "<unk>": "[UNK]"}
    names = {**special, "<mask>": "[MASK]"}
    foreign = torch.tensor([VOCABULARY.index(names.get(word, word)) for word in dictionary.symbols])
    attended = tokens.ne(dictionary.pad()).long()
    labels = torch.full_like(tokens, -100).scatter(1, picked, foreign[tokens.gather(1, picked)])
    with torch.no_grad():
        gen_loss = ElectraForMaskedLM.from_pretrained(pair[1])(
            foreign[output.masked_tokens], attention_mask=attended, labels=labels
        ).loss
        disc_loss = ElectraForPreTraining.from_pretrained(pair[0])(
            foreign[output.corrupted_tokens],
            attention_mask=attended,
            labels=output.is_replaced.long(),
        ).loss
    assert output.is_replaced.any()
    assert (log["gen_loss"] / 4).item() == pytest.approx(gen_loss.item(), rel=1e-5)
    assert (log["disc_loss"] / sample["ntokens"]).item() == pytest.approx(disc_loss.item(), 1e-5)
    expected = gen_loss + 50 * disc_loss
    assert (loss / sample_size).item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_discriminator_alone(pair, tmp_path, capsys):
    main(["import-hf", str(pair[0]), "--generator-size", "0.25", str(tmp_path / "ours")])
    assert "new, from random weights: generator\n" in capsys.readouterr().out
    model, _ = load(tmp_path / "ours")
    assert model.generator.head.dense.in_features == SMALLEST.hidden // 4
    main(["export-hf", str(tmp_path / "ours/checkpoint.pt"), str(tmp_path / "back")])
    assert same_bits(
        pair[0] / "model.safetensors", tmp_path / "back/discriminator/model.safetensors"
    )


def test_a_generator_alone(pair, tmp_path, capsys):
    main(["import-hf", "none", "--generator", str(pair[1]), "--arch", "electra_tiny",
          str(tmp_path / "ours")])  # fmt: skip
    printed = capsys.readouterr().out
    assert "new, from random weights: encoder\n" in printed
    assert "new, from random weights: discriminator_head\n" in printed
    main(["export-hf", str(tmp_path / "ours/checkpoint.pt"), str(tmp_path / "back")])
    assert same_bits(pair[1] / "model.safetensors", tmp_path / "back/generator/model.safetensors")


@pytest.mark.parametrize("classes", [1, 3, 17])
def test_a_fine_tuned_head(build_model, tmp_path, capsys, classes):
    """The same logits through two layers there; refused where it has too few units (32)."""
    model = build_model(pretrain=False, seed=4).eval()
    model.register_classification_head("topic", classes)
    torch.nn.init.normal_(model.classification_heads["topic"].out_proj.bias)
    data = tmp_path / "data"
    (data / "input0").mkdir(parents=True)
    (data / "input0/dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    (data / "label").mkdir()
    labels = ["down", "level", "up"]
    (data / "label/dict.txt").write_text("".join(f"{label} 1\n" for label in labels))
    write_checkpoint(tmp_path / "c.pt", ElectraConfig(**TINY), model.state_dict(), data)
    main(["export-hf", str(tmp_path / "c.pt"), str(tmp_path / "hf")])
    printed = capsys.readouterr().out
    if classes == 17:
        assert "topic: not written" in printed
        assert not (tmp_path / "hf/topic").exists()
        return
    theirs = ElectraForSequenceClassification.from_pretrained(tmp_path / "hf/topic").eval()
    tokens = torch.tensor([[0, 5, 6, 7, 2], [0, 8, 2, 1, 1]])
    with torch.no_grad():
        ours, _ = model(tokens, classification_head_name="topic")
        expected = theirs(tokens, attention_mask=tokens.ne(1).long()).logits
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    if classes == 3:
        assert theirs.config.id2label == dict(enumerate(labels))


def test_double_head_by_hand():
    head = double_head(torch.tensor([[2.0, 3.0]]), torch.tensor([5.0]))
    assert head["classifier.dense.weight"].tolist() == [[2, 3], [-2, -3]]
    assert head["classifier.dense.bias"].tolist() == [5, -5]
    assert head["classifier.out_proj.weight"].tolist() == [[1, -1]]
    assert head["classifier.out_proj.bias"].tolist() == [0]


# --- what is not taken is named ---


def edit_tensors(folder, **changes):
    """Replace tensors (None: delete) in a folder; dots in names are given as __."""
    tensors = load_file(folder / "model.safetensors")
    for name, tensor in changes.items():
        name = name.replace("__", ".")
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refuse(pair, out, message):
    command = ["import-hf", str(pair[0]), "--generator", str(pair[1]), str(out)]
    with pytest.raises(SystemExit, match=message) as error:
        main(command)
    assert str(error.value).startswith("conversion: ")
    assert "\n" not in str(error.value)
    assert not out.exists()
    assert not list(out.parent.glob("*partial*"))


def test_unknown_missing_and_misshapen_tensors_are_named(copies, tmp_path):
    edit_tensors(
        copies[0], extra__weight=torch.ones(2), discriminator_predictions__dense__bias=None
    )
    refuse(
        copies,
        tmp_path / "out",
        r"missing tensors discriminator_predictions\.dense\.bias; unknown tensors extra\.weight$",
    )


def test_misshapen_tensors_are_named(copies, tmp_path):
    edit_tensors(copies[0], electra__encoder__layer__1__output__dense__weight=torch.ones(32, 63))
    refuse(copies, tmp_path / "out", r"layer\.1\.output\.dense\.weight is 32 x 63, not 32 x 64")


def test_one_misshapen_part_of_the_stack_is_named(copies, tmp_path):
    edit_tensors(copies[1], electra__encoder__layer__0__attention__self__key__bias=torch.ones(17))
    refuse(copies, tmp_path / "out", r"layer\.0\.attention\.self\.key\.bias is 17, not 16")


def test_an_output_table_of_its_own_is_refused(copies, tmp_path):
    table = torch.ones(len(VOCABULARY), 16)
    edit_tensors(copies[1], generator_lm_head__weight=table)
    refuse(copies, tmp_path / "out", r"generator_lm_head\.weight is not electra\.embeddings")


def test_one_different_bit_unties(copies, tmp_path):
    """The generator's size is that of its embeddings, so that it can keep its own."""
    name = "electra.embeddings.token_type_embeddings.weight"
    table = load_file(copies[1] / "model.safetensors")[name]
    table[1, 3] = torch.nextafter(table[1, 3], torch.tensor(9.0))
    edit_tensors(copies[1], **{name.replace(".", "__"): table})
    main(["import-hf", str(copies[0]), "--generator", str(copies[1]), str(tmp_path / "ours")])
    model, _ = load(tmp_path / "ours")
    assert model.cfg.untie_embeddings
    assert torch.equal(model.generator.embeddings.embed_token_types.weight, table)
    edit_config(copies[1], hidden_size=64, num_attention_heads=1, intermediate_size=256)
    refuse(copies, tmp_path / "out", r"not the discriminator's \(electra\.embeddings\.token_type")


def test_heads_and_old_buffers_are_listed(copies, tmp_path, capsys):
    edit_tensors(
        copies[0],
        electra__embeddings__position_ids=torch.arange(32)[None],
        classifier__dense__bias=torch.ones(32),
        discriminator_predictions__dense__weight=None,
        discriminator_predictions__dense__bias=None,
        discriminator_predictions__dense_prediction__weight=None,
        discriminator_predictions__dense_prediction__bias=None,
    )
    edit_config(copies[0], architectures=["ElectraForSequenceClassification"])
    main(["import-hf", str(copies[0]), "--generator", str(copies[1]), str(tmp_path / "ours")])
    printed = capsys.readouterr().out
    assert f"not taken from {copies[0]}: classifier.dense.bias\n" in printed
    assert f"not taken from {copies[0]}: electra.embeddings.position_ids\n" in printed
    assert "new, from random weights: discriminator_head\n" in printed


# --- bad input ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, "holds a model bert, not electra"),
        ({"hidden_act": "relu"}, "hidden_act is relu; only gelu"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
        ({"type_vocab_size": 1}, "type_vocab_size is 1"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is relative_key"),
        ({"vocab_size": 30522}, r"its vocabulary has \d+ entries, .* vocab_size 30522"),
    ],
)
def test_other_configurations(copies, tmp_path, changes, message):
    edit_config(copies[0], **changes)
    refuse(copies, tmp_path / "out", message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"intermediate_size": 32}, "the generator does not fit: FFN size 32, not 64"),
        ({"num_attention_heads": 2}, "heads 2, not 1"),
        ({"num_hidden_layers": 1}, "layers 1, not 2"),
        ({"max_position_embeddings": 16}, "not the discriminator's number of positions"),
    ],
)
def test_generators_that_do_not_fit(copies, tmp_path, changes, message):
    edit_config(copies[1], **changes)
    refuse(copies, tmp_path / "out", message)


def test_folders_that_lack_files(copies, tmp_path):
    (copies[1] / "vocab.txt").unlink()
    refuse(copies, tmp_path / "out", r"g has neither tokenizer\.json nor vocab\.txt")
    weights = copies[0] / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    refuse(copies, tmp_path / "out", r"model\.safetensors is damaged or cut short")
    weights.rename(copies[0] / "pytorch_model.bin")
    refuse(copies, tmp_path / "out", r"pytorch_model\.bin is not read \(pickles can run code\)")
    (copies[0] / "model.safetensors.index.json").write_text("{}")
    refuse(copies, tmp_path / "out", "its weights are in several files")
    (copies[0] / "config.json").unlink()
    refuse(copies, tmp_path / "out", r"d has no config\.json")
    refuse([tmp_path / "nowhere", copies[1]], tmp_path / "out", "nowhere: no such folder")


def test_different_vocabularies(copies, tmp_path):
    words = [*VOCABULARY[:-2], VOCABULARY[-1], VOCABULARY[-2]]
    (copies[1] / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    refuse(copies, tmp_path / "out", "have different vocabularies")


def test_nothing_named(tmp_path):
    with pytest.raises(SystemExit, match="name a discriminator's folder"):
        main(["import-hf", "none", str(tmp_path / "out")])


def test_a_generator_alone_needs_the_discriminators_size(pair, tmp_path):
    with pytest.raises(SystemExit, match="a generator alone does not say how large"):
        main(["import-hf", "none", "--generator", str(pair[1]), str(tmp_path / "out")])
    with pytest.raises(SystemExit, match="choose one of electra, electra_base"):
        main(["import-hf", "none", "--generator", str(pair[1]), "--arch", "roberta",
              str(tmp_path / "out")])  # fmt: skip


def test_an_existing_folder_is_kept(pair, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("mine")
    with pytest.raises(SystemExit, match="exists already"):
        main(["import-hf", str(pair[0]), str(tmp_path / "out")])
    assert (tmp_path / "out/mine").read_text() == "mine"


def test_export_needs_the_right_dictionary(pair, tmp_path):
    main(["import-hf", str(pair[0]), str(tmp_path / "ours")])
    checkpoint = str(tmp_path / "ours/checkpoint.pt")
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(SystemExit, match=r"no dict\.txt in .*other: name its data directory"):
        main(["export-hf", checkpoint, "--data", str(other), str(tmp_path / "out")])
    (other / "dict.txt").write_text("a 1\nb 1\n")
    with pytest.raises(SystemExit, match="is not the dictionary that the checkpoint was trained"):
        main(["export-hf", checkpoint, "--data", str(other), str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_config_names_the_class_and_type(pair, tmp_path):
    main(["import-hf", str(pair[0]), str(tmp_path / "ours")])
    main(["export-hf", str(tmp_path / "ours/checkpoint.pt"), str(tmp_path / "hf")])
    config = json.loads((tmp_path / "hf/discriminator/config.json").read_text())
    assert config["architectures"] == ["ElectraForPreTraining"]
    assert (config["pad_token_id"], config["dtype"]) == (0, "float32")
