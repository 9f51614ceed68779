"""GLUE's metrics over a whole set, by scikit-learn and scipy, in percent.

In: predictions and labels as the files have them, as text. Out: a number for each metric's name.
"""

import math
import warnings
from collections import Counter
from typing import Callable, Dict, List, Sequence

from scipy.stats import ConstantInputWarning, pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef


def correlation(measure: Callable, predictions: Sequence[str], labels: Sequence[str]) -> float:
    """Pearson's or Spearman's correlation of numbers; 0 for predictions that are all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        value = float(measure(list(map(float, predictions)), list(map(float, labels)))[0])
    return 0.0 if math.isnan(value) else value


METRICS = {
    "accuracy": lambda predictions, labels: accuracy_score(labels, predictions),
    "f1": lambda predictions, labels: f1_score(labels, predictions, pos_label="1"),
    "mcc": lambda predictions, labels: matthews_corrcoef(labels, predictions),
    "pearson": lambda predictions, labels: correlation(pearsonr, predictions, labels),
    "spearman": lambda predictions, labels: correlation(spearmanr, predictions, labels),
}


def measure(
    names: Sequence[str], predictions: Sequence[str], labels: Sequence[str]
) -> Dict[str, float]:
    """Each named metric in percent."""
    return {name: 100 * float(METRICS[name](predictions, labels)) for name in names}


def predict_majority(train_labels: Sequence[str], count: int) -> List[str]:
    """The most frequent label of the training set, count times: what knowing nothing gives."""
    return [Counter(train_labels).most_common(1)[0][0]] * count
