"""What is packed is the same model, small, and says nothing of where it came from."""

import shutil

import pytest
import torch
from omegaconf import OmegaConf

from fairseq_electra import hub
from fairseq_electra.__main__ import main
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.modules.heads import GeneratorHead
from fairseq_electra.modules.shared_embeddings import take_deltas


def test_the_same_model_in_half_the_size(checkpoint, tmp_path, electra):
    main(["pack", str(checkpoint), str(tmp_path / "packed")])
    other = hub.load(tmp_path / "packed")
    assert sorted(file.name for file in (tmp_path / "packed").iterdir()) == [
        *("checkpoint.pt", "dict.txt", "tokenizer_info.json", "vocab.txt")
    ]
    for name, tensor in electra.model.state_dict().items():
        torch.testing.assert_close(
            other.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4, msg=name
        )
    assert other.model.cfg.mlm_updates == 0
    tokens = electra.encode("the cat sees it .")
    torch.testing.assert_close(
        *(other.replaced_logits(tokens[None]), electra.replaced_logits(tokens[None])),
        rtol=0.02,
        atol=0.01,
    )
    content = (tmp_path / "packed" / "checkpoint.pt").read_bytes()
    assert str(checkpoint.parent).encode() not in content


def test_gradient_disentangled_tables_are_packed_as_they_are(checkpoint, electra, tmp_path):
    folder = shutil.copytree(checkpoint.parent, tmp_path / "run")
    tensors = dict(electra.model.state_dict())
    take_deltas(tensors)
    tensors["embeddings.embed_tokens.delta"].normal_()
    cfg = OmegaConf.merge(electra.model.cfg, {"embedding_sharing": "gdes"})
    write_checkpoint(folder / "checkpoint.pt", cfg, tensors, folder)
    main(["pack", str(folder / "checkpoint.pt"), str(tmp_path / "packed")])
    electra, packed = hub.load(folder), hub.load(tmp_path / "packed")
    tables = [each.model.embeddings.embed_tokens.weight for each in (electra, packed)]
    torch.testing.assert_close(*tables, rtol=0, atol=5e-3)
    assert packed.model.generator.embeddings is not None and packed.device.type == "cpu"
    tokens = electra.encode("the cat sees it .")[None]
    logits = [each.replaced_logits(tokens) for each in (electra, packed)]
    torch.testing.assert_close(*logits, rtol=0.02, atol=0.02)


def test_it_is_published_without_its_data(checkpoint, tmp_path):
    """export-hf finds the dictionary beside the checkpoint, and the logits are the same."""
    transformers = pytest.importorskip("transformers", reason="needs the extra hf")
    folder = shutil.copytree(checkpoint.parent, tmp_path / "run")
    main(["pack", str(folder / checkpoint.name), str(tmp_path / "packed")])
    shutil.rmtree(folder)
    main(["export-hf", str(tmp_path / "packed" / "checkpoint.pt"), str(tmp_path / "hf")])
    packed, published = hub.load(tmp_path / "packed"), tmp_path / "hf" / "discriminator"
    text = "the cat sees it ."
    numbers = transformers.AutoTokenizer.from_pretrained(published)(text, return_tensors="pt")
    model = transformers.ElectraForPreTraining.from_pretrained(published).float().eval()
    torch.testing.assert_close(
        model(**numbers).logits[0], packed.replaced_logits(packed.encode(text)[None])[0]
    )


@pytest.mark.parametrize("option", ["mlm_updates", "clm_weight"])
def test_what_it_was_trained_with_is_kept(checkpoint, electra, tmp_path, option):
    """The longest sequence and the masked share; the head for words is not."""
    folder = shutil.copytree(checkpoint.parent, tmp_path / "run")
    tensors = electra.model.state_dict()
    trained = {"tokens_per_sample": 20, "mask_prob": 0.25}
    write_checkpoint(folder / "checkpoint.pt", electra.model.cfg, tensors, folder, **trained)
    state = torch.load(folder / "checkpoint.pt", weights_only=False)
    state["cfg"]["model"][option] = 2
    state["model"] = {
        **electra.model.state_dict(),
        **{f"mlm_head.{name}": tensor for name, tensor in make_head(electra).items()},
    }
    torch.save(state, folder / "checkpoint.pt")
    assert hub.load(folder).model.mlm_head is not None
    main(["pack", str(folder / "checkpoint.pt"), str(tmp_path / "packed")])
    packed = hub.load(tmp_path / "packed")
    assert packed.model.mlm_head is None
    assert (packed.max_tokens, packed.task.cfg.mask_prob) == (20, 0.25)


def make_head(electra):
    cfg = electra.model.cfg
    sizes = (cfg.encoder_embed_dim, cfg.embedding_size, len(electra.dictionary))
    return GeneratorHead(*sizes).state_dict()


def test_what_cannot_be_packed_is_named(checkpoint, train_electra, data_bin, tmp_path):
    train_electra(data_bin, tmp_path / "run")
    last = str(tmp_path / "run" / "checkpoint_last.pt")
    out = str(tmp_path / "packed")
    with pytest.raises(SystemExit, match=r"fairseq-electra pack: .* where no tokenizer is"):
        main(["pack", last, out])
    with pytest.raises(SystemExit, match="trained with another dictionary"):
        main(["pack", last, out, "--data", str(checkpoint.parent)])
    with pytest.raises(SystemExit, match="exists already"):
        main(["pack", str(checkpoint), str(tmp_path / "run")])
    assert not (tmp_path / "packed").exists()
