"""The runs of reproduce.sh: two models at each budget, ablations at the smallest, equal FLOPs.

In: the size, its settings, the data, budgets as percents of the paper's training. Out: Runs.
"""

import os
import subprocess
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence

from fairseq_electra.runs.count_flops import match_updates
from fairseq_electra.runs.flops import count_run, parse_args, read_arch

SCRIPTS = Path(__file__).resolve().parents[1]
SETTINGS = ("UPDATES", "WARMUP", "TOKENS", "BATCH", "MASK_PROB")  # of sizes.sh
MODELS = {"electra": "ELECTRA", "roberta": "RoBERTa"}
WARMUP_SHARE = (
    10  # a short run warms up for a tenth of its updates: the paper's 10 000 are too many
)


class Ablation(NamedTuple):
    """One change of ELECTRA."""

    title: str
    options: List[str]  # of fairseq-train
    changes_cost: bool  # flops.py takes the same options


GENERATORS = {0.25: "generator 1/4", 0.5: "generator 1/2", 1.0: "generator 1"}
ABLATIONS = [
    *(
        Ablation(title, ["--generator-size", f"{share:g}"], True)
        for share, title in GENERATORS.items()
    ),
    Ablation("untied embeddings", ["--untie-embeddings"], True),
    Ablation("disc_weight 10", ["--disc-weight", "10"], False),
    Ablation("loss on picked tokens", ["--disc-loss-on", "picked"], False),
]


class Run(NamedTuple):
    """One pre-training with a schedule of its own."""

    name: str  # of its folders, such as electra-6.25
    model: str  # electra or roberta
    title: str  # in the report
    budget: float  # percent of the paper's training
    updates: int  # for RoBERTa those of the ELECTRA that costs as much
    warmup: int
    options: List[str]


def read_settings(size: str) -> Dict[str, str]:
    """What sizes.sh says of a size, such as UPDATES, the paper's.

    Raises:
        ValueError: if there is no such size.
    """
    shown = " ".join(f"${name}" for name in SETTINGS)
    done = subprocess.run(
        ["bash", "-c", f"source {SCRIPTS}/env.sh; source {SCRIPTS}/sizes.sh; echo {shown}"],
        env={**os.environ, "SIZE": size},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ValueError(done.stderr.strip().splitlines()[-1])
    return dict(zip(SETTINGS, done.stdout.split(), strict=True))


def count_cost(size: str, data: Path, settings: Dict[str, str], options: Sequence[str]) -> dict:
    """flops.py's count for an ELECTRA with these options."""
    words = ["--arch", f"electra_{size}", "--data", str(data)]
    words += ["--tokens-per-sample", settings["TOKENS"], "--mask-prob", settings["MASK_PROB"]]
    return count_run(parse_args([*words, *options]))


def plan_runs(
    size: str, data: Path, settings: Dict[str, str], budgets: Sequence[float], ablations: bool
) -> List[Run]:
    """ELECTRA and RoBERTa at each budget, smallest first, then the ablations at the smallest.

    All runs of a budget cost the same FLOPs, to the nearest update.
    """
    in_full = int(settings["UPDATES"])
    most_warmup = int(settings["WARMUP"])

    def make_run(name, model, title, budget, updates, own_updates, options=()):
        warmup = max(1, min(most_warmup, own_updates // WARMUP_SHARE))
        return Run(name, model, title, budget, updates, warmup, list(options))

    usual = count_cost(size, data, settings, ())
    runs = []
    for budget in sorted(budgets):
        updates = max(1, round(in_full * budget / 100))
        other = match_updates(updates, usual["per_token"], usual["roberta_per_token"])
        runs += [
            make_run(f"{model}-{budget:g}", model, title, budget, updates, own_updates)
            for (model, title), own_updates in zip(MODELS.items(), (updates, other), strict=True)
        ]
    own_share = read_arch(f"electra_{size}")[1]
    chosen = [a for a in ABLATIONS if a.title != GENERATORS.get(own_share)] if ablations else []
    budget = min(budgets)
    for title, options, changes_cost in chosen:
        cost = count_cost(size, data, settings, options if changes_cost else ())
        updates = match_updates(
            max(1, round(in_full * budget / 100)), usual["per_token"], cost["per_token"]
        )
        name = title.replace(" ", "-").replace("/", "-").replace("_", "-")
        runs.append(make_run(name, "electra", title, budget, updates, updates, options))
    return runs
