"""Sentences to vectors: `embed`, and transformers and sentence-transformers on the same weights.

    python scripts/benchmark_embedding.py DATA_BIN TEXT [--size small] [--sentences 1000]

DATA_BIN: what fairseq-electra prepare-data makes, for its tokenizer. TEXT: raw text, plain, .gz or
.xz, a paragraph a line. The weights are random, which costs what trained ones cost.
"""

import argparse
import importlib.util
import logging
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Callable, Dict, List, NamedTuple

import numpy as np
import torch

from fairseq_electra import hub
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.conversion.hf_export import export_hf
from fairseq_electra.conversion.vocabulary import load_dictionary
from fairseq_electra.hub.electra import BATCH, Electra
from fairseq_electra.hub.summaries import split_sentences
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.text.raw_text import read_lines
from scripts.benchmark.contenders import Setting, make_cfg
from scripts.benchmark.timing import interleave

WORDS = (5, 60)  # fewest and most in a sentence that is measured
BASE = "transformers, padded batches in the given order"
Embedder = Callable[[List[str]], np.ndarray]


class Pair(NamedTuple):
    """One model, as this plugin loads it and as transformers does."""

    electra: Electra
    folder: Path  # of transformers


def read_sentences(path: Path, number: int) -> List[str]:
    """The first sentences of a text, `number` of them that are neither short nor very long."""
    sentences: List[str] = []
    for line in read_lines(path):
        found = split_sentences(line)
        sentences += [each for each in found if WORDS[0] <= len(each.split()) <= WORDS[1]]
        if len(sentences) >= number:
            break
    return sentences[:number]


def build_pair(data_bin: Path, setting: Setting, folder: Path) -> Pair:
    """A model with random weights, written to `folder` in both formats."""
    torch.manual_seed(1)
    cfg = make_cfg(setting)
    model = ElectraModel(cfg, load_dictionary(data_bin / "dict.txt"), pretrain=True)
    checkpoint = folder / "checkpoint.pt"
    write_checkpoint(checkpoint, cfg, model.state_dict(), data_bin)
    (folder / "hf").mkdir()
    export_hf(checkpoint, folder / "hf", data_bin)
    electra = hub.load(checkpoint, str(setting.device), data=data_bin)
    return Pair(electra, folder / "hf" / "discriminator")


def load_transformers(pair: Pair) -> Embedder:
    """As its users do: a batch is padded to its longest, the mean is over what is no padding."""
    from transformers import AutoModel, AutoTokenizer, logging

    logging.set_verbosity_error()  # it names the pre-training head as unexpected
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(pair.folder)
    model = AutoModel.from_pretrained(pair.folder).eval().to(pair.electra.device)

    @torch.inference_mode()
    def embed(sentences: List[str]) -> np.ndarray:
        rows = []
        for start in range(0, len(sentences), BATCH):
            texts = sentences[start : start + BATCH]
            batch = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
            batch = batch.to(model.device)
            features = model(**batch).last_hidden_state  # (B, T, C)
            mask = batch["attention_mask"][:, :, None]
            rows.append((features * mask).sum(1) / mask.sum(1))
        return torch.cat(rows).cpu().numpy()

    return embed


def load_sentence_transformers(pair: Pair) -> Embedder:
    """Its `encode`, which sorts by length; the same mean."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(pair.folder), device=str(pair.electra.device))
    return lambda sentences: model.encode(sentences, batch_size=BATCH, show_progress_bar=False)


def list_embedders(pair: Pair) -> Dict[str, Embedder]:
    """What is compared, by name; without what is not installed."""
    embed = pair.electra.embed
    embedders: Dict[str, Embedder] = {
        "embed, the last layer": lambda texts: embed(texts, layer=-1, show_progress_bar=False),
        "embed, the middle layer (default)": lambda texts: embed(texts, show_progress_bar=False),
    }
    if importlib.util.find_spec("transformers") is not None:
        embedders[BASE] = load_transformers(pair)
    if importlib.util.find_spec("sentence_transformers") is not None:
        embedders["sentence-transformers' encode"] = load_sentence_transformers(pair)
    return embedders


def compare(
    data_bin: Path, sentences: List[str], setting: Setting, rounds: int
) -> Dict[str, List[float]]:
    """Seconds of each for all sentences, in turn, `rounds` times."""
    with TemporaryDirectory() as folder:
        pair = build_pair(data_bin, setting, Path(folder))
        embedders = list_embedders(pair)
        calls = {name: (lambda embed=embed: embed(sentences)) for name, embed in embedders.items()}
        return interleave(calls, rounds, setting.device)


def format_table(times: Dict[str, List[float]], number: int) -> List[str]:
    """Markdown: sentences a second, and medians of the ratios within each round."""
    lines = [
        "| | sentences/s | slowest to fastest | x transformers |",
        "|---|---|---|---|",
    ]
    for name, seconds in times.items():
        ratio = "not run"
        if BASE in times:
            ratios = [base / own for base, own in zip(times[BASE], seconds, strict=True)]
            ratio = f"{statistics.median(ratios):.2f}"
        rates = [number / each for each in seconds]
        median = statistics.median(rates)
        lines.append(f"| {name} | {median:.0f} | {min(rates):.0f} to {max(rates):.0f} | {ratio} |")
    return lines


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data_bin", type=Path, metavar="DATA_BIN")
    parser.add_argument("text", type=Path, metavar="TEXT")
    parser.add_argument("--size", default="small", choices=["tiny", "small", "base", "large"])
    parser.add_argument("--sentences", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    logging.disable(logging.INFO)
    try:
        sentences = read_sentences(args.text, args.sentences)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        setting = Setting(args.size, 512, BATCH, device, 0, 0.0)
        times = compare(args.data_bin, sentences, setting, args.rounds)
    except ValueError as error:
        parser.error(str(error))
    words = sum(len(each.split()) for each in sentences) / len(sentences)
    print(f"\n{args.size}, {len(sentences)} sentences of {words:.1f} words, {device}")
    print(f"{torch.get_num_threads()} threads, {args.rounds} rounds in turn")
    print("\n".join(format_table(times, len(sentences))))
