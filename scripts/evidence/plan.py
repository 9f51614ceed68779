"""The runs of reproduce.sh: two models at each budget, ablations at the smallest, equal FLOPs.

In: the size, its settings, the data, budgets as percents of the paper's training. Out: Runs.
"""

from pathlib import Path
from typing import List, NamedTuple, Sequence

from fairseq_electra.recipes import SIZES, Recipe
from fairseq_electra.runs.count_flops import match_updates
from fairseq_electra.runs.flops import count_run, parse_args

SCRIPTS = Path(__file__).resolve().parents[1]
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
    Ablation("untied embeddings", ["--embedding-sharing", "none"], True),
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


def count_cost(size: str, data: Path, recipe: Recipe, options: Sequence[str]) -> dict:
    """flops.py's count for an ELECTRA with these options."""
    words = ["--arch", f"electra_{size}", "--data", str(data)]
    words += ["--tokens-per-sample", str(recipe.tokens), "--mask-prob", str(recipe.mask_prob)]
    return count_run(parse_args([*words, "--", *recipe.electra.split(), *options]))


def plan_runs(
    size: str, data: Path, recipe: Recipe, budgets: Sequence[float], ablations: bool
) -> List[Run]:
    """ELECTRA and RoBERTa at each budget, smallest first, then the ablations at the smallest.

    All runs of a budget cost the same FLOPs, to the nearest update.
    """

    def make_run(name, model, title, budget, updates, own_updates, options=()):
        warmup = max(1, min(recipe.warmup, own_updates // WARMUP_SHARE))
        return Run(name, model, title, budget, updates, warmup, list(options))

    usual = count_cost(size, data, recipe, ())
    runs = []
    for budget in sorted(budgets):
        updates = max(1, round(recipe.updates * budget / 100))
        other = match_updates(updates, usual["per_token"], usual["roberta_per_token"])
        runs += [
            make_run(f"{model}-{budget:g}", model, title, budget, updates, own_updates)
            for (model, title), own_updates in zip(MODELS.items(), (updates, other), strict=True)
        ]
    own_share = SIZES[size].generator_size
    chosen = [a for a in ABLATIONS if a.title != GENERATORS.get(own_share)] if ablations else []
    budget = min(budgets)
    for title, options, changes_cost in chosen:
        cost = count_cost(size, data, recipe, options if changes_cost else ())
        updates = match_updates(
            max(1, round(recipe.updates * budget / 100)), usual["per_token"], cost["per_token"]
        )
        name = title.replace(" ", "-").replace("/", "-").replace("_", "-")
        runs.append(make_run(name, "electra", title, budget, updates, updates, options))
    return runs
