"""A checkpoint of electra_answers and a SQuAD file -> JSON of its answers, and their metrics.

answer.py is the command.
"""

import argparse
import json
from typing import Any, Dict, List, Optional

import torch

from fairseq_electra.answers.decode import Prediction, predict_answers
from fairseq_electra.answers.metrics import evaluate
from fairseq_electra.data.squad import Squad, read_squad
from fairseq_electra.hub.finetuned_model import load_finetuned


def choose_texts(predictions: Dict[str, Prediction], threshold: Optional[float]) -> Dict[str, str]:
    """Each question's best text; "" where there is none, or no answer is too likely."""
    return {
        name: ""
        if not answers or (threshold is not None and na_prob > threshold)
        else answers[0][0]
        for name, (answers, na_prob) in predictions.items()
    }


def list_nbest(predictions: Dict[str, Prediction]) -> Dict[str, List[Dict[str, Any]]]:
    """Each question's texts with their scores and the share that a softmax gives them."""
    nbest = {}
    for name, (answers, _) in predictions.items():
        scores = torch.tensor([score for _, score in answers], dtype=torch.float64)
        nbest[name] = [
            {"text": text, "score": score, "probability": share}
            for (text, score), share in zip(answers, scores.softmax(0).tolist(), strict=True)
        ]
    return nbest


def describe_metrics(metrics: Dict[str, float]) -> str:
    """A line for each number, percents to two digits."""
    lines = []
    for name, value in metrics.items():
        form = "d" if name.endswith("total") else ".6g" if name.endswith("thresh") else ".2f"
        lines.append(f"{name:20}{value:>10{form}}")
    return "\n".join(lines)


def answer_file(args: argparse.Namespace, n_best: int) -> None:
    """Predict, write, report.

    Raises:
        ValueError, OSError: for what the user can mend.
    """
    for path in (args.out, args.na_probs, args.nbest):
        if path is not None and path.exists():
            raise ValueError(f"{path} exists already: remove it, or name another file")
    squad = read_squad(args.input)
    check_version(args, squad)
    model, task = load_finetuned(args.checkpoint, "electra_answers", args.data)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    dataset = task.make_dataset(squad, args.input, to_learn=False)
    predictions = predict_answers(model, dataset, args.max_answer_length, n_best)
    texts = choose_texts(predictions, args.na_threshold)
    na_probs = {name: prediction.na_prob for name, prediction in predictions.items()}
    outputs = ((args.out, texts), (args.na_probs, na_probs), (args.nbest, list_nbest(predictions)))
    for path, content in outputs:
        if path is not None:
            path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
    print(dataset.describe())
    if squad.has_answers:
        print(describe_metrics(evaluate(squad, texts, na_probs)))


def check_version(args: argparse.Namespace, squad: Squad) -> None:
    """ValueError for options that have no meaning with version 1.1."""
    for name in ("na_probs", "na_threshold"):
        if getattr(args, name) is not None and not squad.has_impossible:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option}: {args.input} has no 'is_impossible', it is SQuAD 1.1")
