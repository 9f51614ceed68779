"""A pre-trained encoder -> how many directions of its features are alive, what a probe reads off.

features.py is the command.
"""

from pathlib import Path
from typing import Dict, List, Tuple, Union

import numpy as np
import torch
from fairseq.data import data_utils
from fairseq.models.roberta import RobertaModel
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from fairseq_electra.criterions.feature_metrics import compute_feature_metrics, sum_features
from fairseq_electra.data.conll import Sentence
from fairseq_electra.data.tagging_dataset import IGNORED, TaggingDataset
from fairseq_electra.data.tokenizer import load_tokenizer
from fairseq_electra.hub.finetuned_model import build, read_state

UNTRAINED = "untrained:"
SEED = 1
BATCH = 64
RIDGE = 10.0  # of standardised features


def load(spec: str):
    """Model in evaluation mode and task.

    Raises:
        ValueError: if there is no such checkpoint, its data is gone, or it is another model's.
    """
    path = Path(spec.removeprefix(UNTRAINED))
    state = read_state(path, None)
    folder = Path(state["cfg"]["task"]["data"])
    if not folder.is_dir():
        raise ValueError(f"{path}: its data-bin {folder} is not there")
    model, task = build(path, state, folder)
    if not (hasattr(model, "encode") or isinstance(model, RobertaModel)):
        raise ValueError(
            f"{path} holds a {type(model).__name__}, which is neither ELECTRA's encoder nor RoBERTa"
        )
    if spec.startswith(UNTRAINED):
        torch.manual_seed(SEED)
        model = task.build_model(state["cfg"]["model"], from_checkpoint=True).eval()
    return model, task


@torch.no_grad()
def measure(model, task, sentences: int) -> Dict[str, float]:
    """Feature metrics of the first blocks of the validation split, as they are."""
    words, length = task.source_dictionary, task.cfg.tokens_per_sample - 2
    stream = data_utils.load_indexed_dataset(str(Path(task.cfg.data) / "valid"), words)
    tokens = torch.cat([stream[index] for index in range(len(stream))])
    blocks = tokens[: len(tokens) // length * length].view(-1, length)[:sentences]
    first, last = blocks.new_full((2, len(blocks), 1), words.bos())
    blocks = torch.cat([first, blocks, last.fill_(words.eos())], 1)
    sums = 0
    for batch in blocks.split(BATCH):
        sums = sums + sum_features(encode_layers(model, batch)[-1], torch.ones_like(batch).bool())
    return compute_feature_metrics(sums)


def encode_layers(model, tokens: Tensor) -> List[Tensor]:
    """Features (B, T, C) of each layer, the first to the last, of tokens (B, T)."""
    if isinstance(model, RobertaModel):
        _, extra = model(tokens, features_only=True, return_all_hiddens=True)
        return [layer.transpose(0, 1) for layer in extra["inner_states"][1:]]
    _, extra = model.encode(tokens, return_all_hiddens=True)
    return extra["inner_states"][1:]


def probe(
    model, task, train: List[Sentence], test: List[Sentence]
) -> Dict[str, Union[float, List[float]]]:
    """Percents of the words of `test` whose tag a ridge classifier gives, fitted to `train`.

    `probe` is that of a classifier that reads all layers; `probe_layers` those of one for each
    layer, the first to the last.
    """
    labels = sorted({tag for sentence in [*train, *test] for tag in sentence.tags})
    tokenizer = load_tokenizer(Path(task.cfg.data))
    (fitted, tags), (others, right) = (
        read_layers(model, TaggingDataset(s, tokenizer, task.source_dictionary, labels, 256))
        for s in (train, test)
    )

    def score(layers: slice) -> float:
        classifier = make_pipeline(StandardScaler(), RidgeClassifier(RIDGE))
        classifier.fit(np.hstack(fitted[layers]), tags)
        return 100 * classifier.score(np.hstack(others[layers]), right)

    each = [score(slice(layer, layer + 1)) for layer in range(len(fitted))]
    return {"probe": score(slice(None)), "probe_layers": each}


@torch.no_grad()
def read_layers(model, dataset: TaggingDataset) -> Tuple[np.ndarray, np.ndarray]:
    """Features at each word's first piece, (layers, words, C), and its tag (words,)."""
    features, tags = [], []
    for start in range(0, len(dataset), BATCH):
        items = [dataset[index] for index in range(start, min(start + BATCH, len(dataset)))]
        batch = dataset.collater(items)
        is_word = batch["target"].ne(IGNORED)
        layers = encode_layers(model, batch["net_input"]["src_tokens"])
        features.append(torch.stack([layer[is_word] for layer in layers]).numpy())
        tags.append(batch["target"][is_word].numpy())
    return np.concatenate(features, 1), np.concatenate(tags)
