"""Both networks, the corruption, the losses and every gradient against the authors' own code."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary

from fairseq_electra.conversion.key_map import (
    DISCRIMINATOR,
    GENERATOR,
    TF,
    check_names,
    list_entries,
    to_ours,
)
from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.corruption import mask_tokens

ORACLE = np.load(Path(__file__).parent.parent / "oracle" / "networks.npz")
PAD, CLS, SEP, MASK = 0, 2, 3, 4


def read_variables(kind):
    """Our parameters' names with the authors' values; query, key and value stacked as ours are."""
    prefix = kind + "/"
    foreign = {
        key.removeprefix(prefix): torch.from_numpy(ORACLE[key])
        for key in ORACLE.files
        if key.startswith(prefix)
    }
    entries = [
        entry
        for network in (DISCRIMINATOR, GENERATOR)
        for entry in list_entries(network, layers=3)
        if entry.tf[0] in foreign  # the generator has no embeddings_project
    ]
    check_names(entries, set(foreign) - {"global_norm"}, TF, kind)
    return to_ours(entries, foreign, TF)


class OracleDictionary(Dictionary):
    """The specials where the oracle's vocabulary has them."""

    def __init__(self):
        super().__init__(bos="[CLS]", pad="[PAD]", eos="[SEP]", unk="[UNK]")
        words = [f"tok{index}" for index in range(5, 120)]
        self.symbols = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<mask>", *words]
        self.indices = {symbol: index for index, symbol in enumerate(self.symbols)}
        self.pad_index, self.unk_index, self.bos_index, self.eos_index = PAD, 1, CLS, SEP


@pytest.fixture(scope="module")
def model():
    cfg = ElectraConfig(
        encoder_layers=3,
        encoder_embed_dim=32,
        encoder_ffn_embed_dim=64,
        encoder_attention_heads=2,
        embedding_size=16,
        generator_size=0.5,
        generator_ffn_embed_dim=32,  # not the 64 of the authors' own rule
        max_positions=64,
        dropout=0.0,
        attention_dropout=0.0,
    )
    model = ElectraModel(cfg, OracleDictionary(), pretrain=True)
    state = read_variables("weight")
    state["dictionary_fingerprint"] = model.dictionary_fingerprint
    torch.nn.Module.load_state_dict(model, state, strict=True)
    return model


def array(name):
    return torch.from_numpy(np.asarray(ORACLE[name]))


def make_sample():
    """The oracle's batch in the form of ours."""
    weights = array("masked_lm_weights")
    tokens = array("input_ids").long()
    return {
        "net_input": {
            "src_tokens": tokens,
            "token_types": array("segment_ids").long(),
            "picked": array("masked_lm_positions").long(),
            "picked_weights": weights,
            "becomes_mask": (array("mask_uniform") < 0.85) & (weights > 0),
            "uniform": torch.ones(weights.shape, dtype=torch.float64),
            "has_padding": True,
            "sampled_tokens": array("sampled_ids").long(),
        },
        "nsentences": len(tokens),
        "ntokens": int(array("input_mask").sum()),
        "npicked": int(weights.sum()),
    }


def close(ours, name, atol=1e-4):
    torch.testing.assert_close(ours, array(name).to(ours.dtype), rtol=0, atol=atol)


def test_masked_input(model):
    net_input = make_sample()["net_input"]
    masked = mask_tokens(
        net_input["src_tokens"], net_input["picked"], net_input["becomes_mask"], MASK
    )
    assert torch.equal(masked, array("masked_input_ids").long())


def test_networks_corrupted_input_and_labels(model):
    output = model(**make_sample()["net_input"])
    assert torch.equal(output.masked_tokens, array("masked_input_ids").long())
    close(output.gen_logits, "gen_logits")
    assert torch.equal(output.corrupted_tokens, array("corrupted_input_ids").long())
    assert torch.equal(output.is_replaced.long(), array("is_fake").long())
    is_token = array("input_mask") > 0  # what is computed of padding means nothing
    torch.testing.assert_close(
        output.disc_logits[is_token], array("disc_logits")[is_token], rtol=0, atol=1e-5
    )


def test_our_logits_with_their_noise_give_their_samples(model):
    """Gumbel-max with the authors' draws on our logits (test_corruption proves our draws)."""
    noise = -torch.log(-torch.log(array("sample_uniform") + 1e-9) + 1e-9)
    gen_logits = model(**make_sample()["net_input"]).gen_logits
    assert torch.equal((gen_logits + noise).argmax(-1), array("sampled_ids").long())


class Task:
    target_dictionary = OracleDictionary()


def test_losses_and_every_gradient(model):
    sample = make_sample()
    criterion = ElectraCriterion(ElectraCriterionConfig(), Task())
    loss, sample_size, log = criterion(model, sample)
    close(log["gen_loss"] / sample["npicked"], "mlm_loss", 1e-5)
    close(log["disc_loss"] / sample["ntokens"], "disc_loss", 1e-5)
    close(loss / sample_size, "total_loss")

    model.zero_grad()
    (loss / sample_size).backward()
    theirs = read_variables("grad")
    global_norm = ORACLE["grad/global_norm"].item()
    ours = dict(model.named_parameters())
    assert set(theirs) == set(ours)
    for name, gradient in theirs.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(
            ours[name].grad, gradient, rtol=0, atol=1e-5 * max(scale, 1.0), msg=name
        )
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in ours.values()]).item()
    assert norm == pytest.approx(global_norm, rel=1e-5)
