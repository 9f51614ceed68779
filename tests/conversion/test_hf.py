"""Hugging Face's ELECTRA here and back: names, bits, ids, logits, losses."""

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra hf")

from safetensors.torch import load_file
from transformers import (
    AutoModel,
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
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.models.electra_mlm import ElectraMaskedLM
from foreign import SHAPES, TEXTS, VOCABULARY, make_pair, save
from tiny import TINY, make_dictionary

SMALLEST = SHAPES[0]


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
ALWAYS = (0, 9, 11)  # of those; the largest are campaign


@pytest.mark.parametrize(
    ("shape", "is_untied"),
    [
        pytest.param(*case, marks=[] if number in ALWAYS else pytest.mark.campaign)
        for number, case in enumerate(CASES)
    ],
)
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


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.float32),
        ({"embedding_sharing": "none"}, torch.float16),
        ({"embedding_size": 32}, torch.bfloat16),
    ],
)
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


@pytest.mark.parametrize("width", [pytest.param(1.0, marks=pytest.mark.campaign), 0.5])
def test_gradient_disentangled_tables_there_and_back(build_model, tmp_path, capsys, width):
    """There the discriminator has the sum; back here the generator has tables of its own, and
    training with `gdes` goes on with their difference. The numbers are the same throughout."""
    options = {"embedding_sharing": "gdes", "generator_size": width}
    model = build_model(seed=3, **options)
    for parameter in model.embeddings.parameters():
        torch.nn.init.normal_(parameter)
    model.eval()
    (tmp_path / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    cfg = ElectraConfig(**{**TINY, **options})
    write_checkpoint(tmp_path / "c.pt", cfg, model.state_dict(), tmp_path)
    main(["export-hf", str(tmp_path / "c.pt"), str(tmp_path / "hf")])
    disc, gen = (str(tmp_path / "hf" / name) for name in ("discriminator", "generator"))
    main(["import-hf", disc, "--generator", gen, str(tmp_path / "back")])
    own = " --generator-embedding-size 16" if width == 1 else ""
    assert f"{own} --embedding-sharing none\n" in capsys.readouterr().out
    back, _ = load(tmp_path / "back")
    again = build_model(**options).eval()
    again.load_state_dict(back.state_dict())
    tokens = torch.tensor([[0, 5, 44, 7, 2], [0, 8, 9, 2, 1]])
    padding, every = tokens.eq(1), torch.arange(5).expand(2, 5)
    with torch.no_grad():
        logits = [
            (
                each.encode(tokens, features_only=False)[0],
                each.generator(tokens, None, padding, every, each.embeddings),
            )
            for each in (model, back, again)
        ]
        attended = (~padding).long()
        theirs = [
            kind.from_pretrained(folder)(tokens, attended).logits
            for kind, folder in ((ElectraForPreTraining, disc), (ElectraForMaskedLM, gen))
        ]
    for ours, imported, resumed, foreign in zip(*logits, theirs, strict=True):
        assert torch.equal(ours, imported) and torch.equal(ours, resumed)
        close(ours, foreign, ~padding)
    main(["export-hf", str(tmp_path / "back/checkpoint.pt"), str(tmp_path / "hf2")])
    for name in ("discriminator", "generator"):
        paths = [tmp_path / folder / name / "model.safetensors" for folder in ("hf", "hf2")]
        assert same_bits(*paths)


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


def test_a_head_that_reads_the_mean_leaves_the_encoder(build_model, tmp_path, capsys):
    model = build_model(pretrain=False, pooling="mean").eval()
    model.register_classification_head("topic", 3)
    data = tmp_path / "data"
    (data / "input0").mkdir(parents=True)
    (data / "input0/dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    cfg = ElectraConfig(**TINY, pooling="mean")
    write_checkpoint(tmp_path / "c.pt", cfg, model.state_dict(), data)
    main(["export-hf", str(tmp_path / "c.pt"), str(tmp_path / "hf")])
    assert "topic: ElectraModel, the encoder alone" in capsys.readouterr().out
    theirs = AutoModel.from_pretrained(tmp_path / "hf/topic").eval()
    tokens = torch.tensor([[0, 5, 6, 7, 2]])
    with torch.no_grad():
        expected = theirs(tokens).last_hidden_state
        torch.testing.assert_close(model(tokens)[0], expected, rtol=1e-5, atol=1e-5)


def test_the_head_of_the_first_stage_is_left_out_and_said(build_model, tmp_path, capsys):
    """The pair is the same as without it."""
    staged = build_model(mlm_updates=9, weight_init="local").state_dict()
    usual = {name: staged[name] for name in staged if not name.startswith("mlm_head")}
    printed = {}
    for name, state in (("staged", staged), ("usual", usual)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
        write_checkpoint(folder / "c.pt", ElectraConfig(**TINY), state, folder)
        main(["export-hf", str(folder / "c.pt"), str(folder / "hf")])
        printed[name] = "left out: mlm_head" in capsys.readouterr().out
    assert printed == {"staged": True, "usual": False}
    for network in ("discriminator", "generator"):
        folders = (tmp_path / name / "hf" / network for name in printed)
        assert same_bits(*(folder / "model.safetensors" for folder in folders))


def test_of_electric_the_discriminator_alone_is_written(build_model, tmp_path, capsys):
    """Its logits there are the energies."""
    model = build_model(two_tower_generator=True).eval()
    (tmp_path / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    cfg = ElectraConfig(**TINY, two_tower_generator=True)
    write_checkpoint(tmp_path / "c.pt", cfg, model.state_dict(), tmp_path)
    main(["export-hf", str(tmp_path / "c.pt"), str(tmp_path / "hf")])
    assert "left out: generator, two towers" in capsys.readouterr().out
    assert [folder.name for folder in (tmp_path / "hf").iterdir()] == ["discriminator"]
    theirs = ElectraForPreTraining.from_pretrained(tmp_path / "hf/discriminator").eval()
    tokens = torch.tensor([[0, 5, 6, 7, 2]])
    with torch.no_grad():
        energies, _ = model(tokens, features_only=False)
        torch.testing.assert_close(theirs(tokens).logits, energies, rtol=1e-5, atol=1e-5)


def test_an_encoder_with_an_mlm_head_alone_is_refused(tmp_path):
    torch.manual_seed(0)
    model = ElectraMaskedLM(ElectraConfig(**TINY), make_dictionary())
    (tmp_path / "dict.txt").write_text("".join(f"w{word} 1\n" for word in range(40)))
    write_checkpoint(tmp_path / "c.pt", ElectraConfig(**TINY), model.state_dict(), tmp_path)
    with pytest.raises(SystemExit, match="fine-tune a checkpoint first"):
        main(["export-hf", str(tmp_path / "c.pt"), str(tmp_path / "hf")])


def test_double_head_by_hand():
    head = double_head(torch.tensor([[2.0, 3.0]]), torch.tensor([5.0]))
    assert head["classifier.dense.weight"].tolist() == [[2, 3], [-2, -3]]
    assert head["classifier.dense.bias"].tolist() == [5, -5]
    assert head["classifier.out_proj.weight"].tolist() == [[1, -1]]
    assert head["classifier.out_proj.bias"].tolist() == [0]
