"""What padding costs in fine-tuning and inference: this plugin and Hugging Face on equal batches.

    python scripts/benchmark_sentences.py TASK_BIN [--size small] [--rounds 3]

TASK_BIN: labelled sentences for fairseq's sentence_prediction (scripts/prepare_task.sh makes it, or
scripts/finetune_glue.sh), whose lengths are measured. `benchmark.py` measures made-up lengths.
"""

import argparse
import statistics
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
import torch
from fairseq.data.indexed_dataset import MMapIndexedDataset

from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.runs.flops import read_arch
from scripts.benchmark.contenders import (
    HAS_TRANSFORMERS,
    RATE,
    Setting,
    configure_hugging_face,
    make_cfg,
    make_dictionary,
)
from scripts.benchmark.timing import interleave

SHARES = (0.0, 0.25, 0.5, 0.75)  # of padding
NUM_CLASSES = 2


def draw_lengths(share: float, setting: Setting) -> np.ndarray:
    """Lengths of a batch with one full sentence and about `share` of padding."""
    rng = np.random.default_rng(1)
    mean = (1 - share) * setting.tokens
    reach = min(mean - 3, setting.tokens - mean)
    lengths = rng.uniform(mean - reach, mean + reach, setting.batch).round().astype(int)
    lengths[0] = setting.tokens
    return lengths


def make_tokens(lengths: np.ndarray, vocab_size: int) -> torch.Tensor:
    """(B, T) random words between `<s>` and `</s>`, then `<pad>` (fairseq's 0, 2 and 1)."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(lengths), int(lengths.max()))
    tokens = torch.randint(4, vocab_size - 1, shape, generator=generator)
    places, ends = torch.arange(shape[1]), torch.from_numpy(lengths)[:, None]
    tokens[:, 0] = 0
    return tokens.masked_fill(places == ends - 1, 2).masked_fill(places >= ends, 1)


def build_ours(setting: Setting, **options) -> torch.nn.Module:
    """A classifier of this plugin; (B, T) tokens -> (B, 2) logits."""
    cfg = make_cfg(setting, **options)
    model = ElectraModel(cfg, make_dictionary(setting.vocab_size), pretrain=False)
    model.register_classification_head("sentences", NUM_CLASSES)
    return Classifier(model.to(setting.device))


class Classifier(torch.nn.Module):
    """Tokens in, logits out, whosever model it is."""

    def __init__(self, model: torch.nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        if isinstance(self.model, ElectraModel):
            return self.model(tokens, classification_head_name="sentences")[0]
        return self.model(input_ids=tokens, attention_mask=tokens.ne(1).long()).logits


def build_hugging_face(setting: Setting) -> torch.nn.Module:
    """Hugging Face's classifier of the same size."""
    from transformers import ElectraForSequenceClassification

    size, _ = read_arch(f"electra_{setting.size}")
    options = {"pad_token_id": 1, "num_labels": NUM_CLASSES}
    config = configure_hugging_face(setting, size, "sdpa", **options)
    return Classifier(ElectraForSequenceClassification(config).to(setting.device))


def build_classifiers(setting: Setting) -> Dict[str, torch.nn.Module]:
    """What is compared, by name."""
    models = {
        "packed": build_ours(setting),
        "packed, bf16": build_ours(setting, precision="bf16"),
        "padded (--attention reference)": build_ours(setting, attention="reference"),
    }
    if HAS_TRANSFORMERS:
        models["Hugging Face sdpa"] = build_hugging_face(setting)
    return models


def train_on(model: torch.nn.Module, batches: List[torch.Tensor]) -> Callable[[], None]:
    """A call that trains on all batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def train() -> None:
        model.train()
        for tokens in batches:
            labels = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
            torch.nn.functional.cross_entropy(model(tokens).float(), labels).backward()
            optimizer.step()
            optimizer.zero_grad()

    return train


def infer_on(model: torch.nn.Module, batches: List[torch.Tensor]) -> Callable[[], None]:
    """A call that classifies all batches."""

    def infer() -> None:
        model.eval()
        with torch.inference_mode():
            for tokens in batches:
                model(tokens)

    return infer


def compare(
    setting: Setting, batches: List[torch.Tensor], rounds: int
) -> Dict[str, Dict[str, float]]:
    """Real tokens a second of each classifier, in training and in inference."""
    tokens = sum(int(batch.ne(1).sum()) for batch in batches)
    batches = [batch.to(setting.device) for batch in batches]
    models = build_classifiers(setting)
    rates = {}
    for kind, prepare in (("training", train_on), ("inference", infer_on)):
        calls = {name: prepare(model, batches) for name, model in models.items()}
        times = interleave(calls, rounds, setting.device)
        rates[kind] = {name: tokens / statistics.median(times[name]) for name in calls}
    return rates


def measure_padding(setting: Setting, rounds: int) -> List[Dict]:
    """Rates over the share of padding."""
    rows = []
    for share in SHARES:
        lengths = draw_lengths(share, setting)
        batch = make_tokens(lengths, setting.vocab_size)
        real = 1 - lengths.sum() / batch.numel()
        rates = compare(setting, [batch], rounds)
        rows.append({"padding": float(real), **rates})
    return rows


def read_sizes(prefix: Path) -> np.ndarray:
    """(N,) tokens of each line, `</s>` counted."""
    dataset = MMapIndexedDataset(str(prefix))  # `sizes` is a view of its file, which it closes
    return np.array(dataset.sizes)


def read_batches(task_bin: Path, setting: Setting, number: int) -> List[torch.Tensor]:
    """`number` batches with the lengths of the task's training set, in random order."""
    lengths = np.minimum(
        sum(read_sizes(path / "train") for path in task_bin.glob("input*")) + 1, 512
    )
    order = np.random.default_rng(1).permutation(len(lengths))[: number * setting.batch]
    return [
        make_tokens(lengths[chosen], setting.vocab_size)
        for chosen in np.array_split(order, max(1, len(order) // setting.batch))
    ]


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("task_bin", type=Path, metavar="TASK_BIN")
    parser.add_argument("--size", default="small", choices=["tiny", "small", "base", "large"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=6, help="different ones a round (default 6)")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    if not (args.task_bin / "input0" / "train.idx").exists():
        parser.error(f"no input0/train.idx in {args.task_bin}: make it with prepare_task.sh")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setting = Setting(args.size, 128, args.batch_size, device, 30522, 0.1)
    batches = read_batches(args.task_bin, setting, args.batches)
    real = sum(int(batch.ne(1).sum()) for batch in batches)
    places = sum(batch.numel() for batch in batches)
    rates = compare(setting, batches, args.rounds)
    share = 1 - real / places
    print(f"\n{args.task_bin}: {real} tokens in {len(batches)} batches, {share:.0%} padding")
    print(f"{'tokens/s':34}{'training':>10}{'inference':>11}")
    for name in rates["training"]:
        print(f"{name:34}{rates['training'][name]:10.0f}{rates['inference'][name]:11.0f}")
