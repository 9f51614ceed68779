"""fairseq's RoBERTa with heads that are not fairseq's: applied, saved, loaded, refused."""

from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch

from fairseq_electra.checkpoints.fitting import hash_names
from fairseq_electra.models.roberta_layerwise import LayerwiseRoberta, roberta_layerwise
from fairseq_electra.modules.heads import TaggingHead
from tiny import TINY, make_dictionary

TOKENS = torch.tensor([[0, 7, 8, 9, 2]])


def build(*labels):
    """A tiny RoBERTa in evaluation mode, with a head for the labels if there are some."""
    args = Namespace(**TINY)
    roberta_layerwise(args)
    model = LayerwiseRoberta.build_model(args, SimpleNamespace(source_dictionary=make_dictionary()))
    if labels:
        model.add_head("tags", TaggingHead(32, len(labels), 0.0, hash_names(labels)))
    return model.eval()


def test_a_head_is_applied_to_every_token_and_loaded():
    saved, loaded = build("B", "I", "O"), build("B", "I", "O")
    logits, _ = saved(TOKENS, classification_head_name="tags")
    features, _ = saved(TOKENS, features_only=True)
    assert torch.equal(logits, saved.classification_heads["tags"](features))
    assert logits.shape == (1, 5, 3)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(loaded(TOKENS, classification_head_name="tags")[0], logits)


def test_a_head_that_the_checkpoint_lacks_is_kept_as_built():
    model = build("B", "I", "O")
    head = model.classification_heads["tags"].out_proj.weight.clone()
    pretrained = build()
    model.load_state_dict(pretrained.state_dict())
    assert torch.equal(model.classification_heads["tags"].out_proj.weight, head)
    table = model.encoder.sentence_encoder.embed_tokens.weight
    assert torch.equal(table, pretrained.encoder.sentence_encoder.embed_tokens.weight)


def test_a_head_that_the_model_lacks_is_left_out_beside_fairseqs():
    trained = build("B", "I", "O")
    trained.register_classification_head("sentences", num_classes=2)
    model = build()
    model.register_classification_head("sentences", num_classes=2)
    model.load_state_dict(trained.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained.state_dict()[name]), name


@pytest.mark.parametrize("labels", [("I", "B", "O"), ("B", "O")])
def test_a_head_of_other_labels_is_refused(labels):
    with pytest.raises(ValueError, match="tags was trained with other labels"):
        build("B", "I", "O").load_state_dict(build(*labels).state_dict())
