"""What cannot be taken from Hugging Face, or written for it, is named in one line."""

import json

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra hf")

from safetensors.torch import load_file

from fairseq_electra.conversion.__main__ import main
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import choose_sharing
from foreign import VOCABULARY, edit_config, edit_tensors


def load(folder):
    """Our model and task, as a user of fairseq loads them."""
    hub = ElectraModel.from_pretrained(str(folder), checkpoint_file="checkpoint.pt")
    return hub.models[0], hub.task  # in evaluation mode


# --- what is not taken is named ---


def refuse(pair, out, message):
    command = ["import-hf", str(pair[0]), "--generator", str(pair[1]), str(out)]
    with pytest.raises(SystemExit, match=message) as error:
        main(command)
    assert str(error.value).startswith("fairseq-electra import-hf: ")
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
    """The generator keeps its own."""
    name = "electra.embeddings.token_type_embeddings.weight"
    table = load_file(copies[1] / "model.safetensors")[name]
    table[1, 3] = torch.nextafter(table[1, 3], torch.tensor(9.0))
    edit_tensors(copies[1], **{name.replace(".", "__"): table})
    main(["import-hf", str(copies[0]), "--generator", str(copies[1]), str(tmp_path / "ours")])
    model, _ = load(tmp_path / "ours")
    assert choose_sharing(model.cfg) == "none"
    assert torch.equal(model.generator.embeddings.embed_token_types.weight, table)


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
        ({"model_type": "bert"}, "holds a model bert, not electra .*: import-bert takes it"),
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
        (
            {"intermediate_size": 32},
            r"misshapen tensors: .*intermediate\.dense\.bias is 64, not 32",
        ),
        ({"num_attention_heads": 3}, "a hidden size of 16, which 3 heads do not divide"),
        ({"num_hidden_layers": 1}, r"unknown tensors electra\.encoder\.layer\.1\."),
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


def test_a_generator_without_its_head(copies, tmp_path):
    edit_tensors(copies[1], generator_lm_head__bias=None)
    edit_config(copies[1], architectures=["ElectraForSequenceClassification"])
    refuse(copies, tmp_path / "out", r"missing tensors generator_lm_head\.bias$")
