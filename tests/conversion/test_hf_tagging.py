"""A tagging head of ours is Hugging Face's ElectraForTokenClassification."""

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra hf")

from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoTokenizer, ElectraForTokenClassification

from fairseq_electra.conversion.__main__ import main
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.tasks.electra_tagging import (
    HEAD,
    ElectraTaggingTask,
    ElectraTaggingTaskConfig,
)
from tagging_bin import TAGS, make_sentences, make_tag_bin
from tiny import TINY


@pytest.fixture
def tuned(tmp_path):
    """A task and a model with random weights, its folder and its checkpoint."""
    folder = make_tag_bin(tmp_path / "bin")
    task = ElectraTaggingTask.setup_task(
        ElectraTaggingTaskConfig(data=str(folder), tokens_per_sample=32)
    )
    torch.manual_seed(3)
    cfg = ElectraConfig(**TINY, _name="electra")
    model = task.build_model(OmegaConf.structured(cfg)).eval()
    torch.nn.init.normal_(model.classification_heads[HEAD].out_proj.bias)
    write_checkpoint(tmp_path / "c.pt", cfg, model.state_dict(), folder)
    state = torch.load(tmp_path / "c.pt", weights_only=True)
    state["cfg"]["task"]["_name"] = "electra_tagging"
    torch.save(state, tmp_path / "c.pt")
    return task, model, folder, tmp_path / "c.pt"


def test_logits_labels_ids_and_every_bit(tuned, tmp_path, capsys):
    """Padded sentences through both; words split by the tokenizer there get the same pieces."""
    task, model, _, checkpoint = tuned
    main(["export-hf", str(checkpoint), str(tmp_path / "hf")])
    assert "tagging_head: ElectraForTokenClassification\n" in capsys.readouterr().out
    folder = tmp_path / "hf" / HEAD
    theirs, info = ElectraForTokenClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    assert theirs.config.id2label == dict(enumerate(TAGS))
    assert theirs.config.label2id == {tag: number for number, tag in enumerate(TAGS)}

    sentences = make_sentences(5, seed=4)
    dataset = task.make_dataset(sentences, "some")
    batch = dataset.collater([dataset[index] for index in range(len(dataset))])
    words = [sentence.words for sentence in sentences]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    foreign = tokenizer(words, is_split_into_words=True, padding=True, return_tensors="pt")
    with torch.no_grad():
        ours, _ = model(**batch["net_input"], classification_head_name=HEAD)
        expected = theirs.eval()(**foreign).logits
    kept = foreign["attention_mask"].bool()
    assert torch.equal(kept, batch["net_input"]["src_tokens"].ne(1))
    torch.testing.assert_close(ours[kept], expected[kept], rtol=1e-5, atol=1e-5)

    tensors = load_file(folder / "model.safetensors")
    head = model.classification_heads[HEAD].out_proj
    assert torch.equal(tensors["classifier.weight"], head.weight)
    assert torch.equal(tensors["classifier.bias"], head.bias)


def test_the_encoder_comes_back_bit_for_bit(tuned, tmp_path, capsys):
    _, model, _, checkpoint = tuned
    main(["export-hf", str(checkpoint), str(tmp_path / "hf")])
    options = ["--generator-size", "0.5", str(tmp_path / "back")]
    main(["import-hf", str(tmp_path / "hf" / HEAD), *options])
    assert "classifier.weight\n" in capsys.readouterr().out  # named as not taken
    back = torch.load(tmp_path / "back" / "checkpoint.pt", weights_only=True)["model"]
    ours = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if not name.startswith("classification_heads.")
    }
    words = ours.pop("embeddings.embed_tokens.weight")
    assert all(torch.equal(back[name], tensor) for name, tensor in ours.items())
    assert torch.equal(back["embeddings.embed_tokens.weight"], words)


def test_labels_that_are_not_the_heads_are_refused(tuned, tmp_path):
    _, _, folder, checkpoint = tuned
    labels = folder / "label" / "dict.txt"
    moved = folder.rename(tmp_path / "moved")
    command = ["export-hf", str(checkpoint), "--data", str(moved), str(tmp_path / "hf")]
    main(command)
    labels = moved / "label" / "dict.txt"
    labels.write_text("".join(f"{tag} 1\n" for tag in TAGS[::-1]))
    command[-1] = str(tmp_path / "other")
    with pytest.raises(SystemExit, match="the labels of tagging_head are not those it was trained"):
        main(command)
    labels.unlink()
    with pytest.raises(SystemExit, match=r"or there is no label/dict\.txt: name its data"):
        main(command)
    assert not (tmp_path / "other").exists()
