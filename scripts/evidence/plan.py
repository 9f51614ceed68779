"""The runs of reproduce.sh: each arm at each budget, ablations at the smallest, equal FLOPs.

In: the size, its settings, the data, budgets as percents of the recipe's training. Out: Runs.
"""

from pathlib import Path
from typing import List, NamedTuple, Sequence

from fairseq_electra.recipes import SIZES, Recipe, choose_mlm_updates, find_recipe
from fairseq_electra.runs.count_flops import match_updates
from fairseq_electra.runs.flops import count_run, parse_args

SCRIPTS = Path(__file__).resolve().parents[1]


class Arm(NamedTuple):
    """A model of the comparison, and how it is pre-trained.

    Attributes:
        model: as `fairseq-electra recipe --model` names it.
        is_plain: by the paper's plain settings, where the size has others.
        options: of fairseq-train.
    """

    name: str
    title: str
    model: str
    script: str
    is_plain: bool = False
    options: Sequence[str] = ()


ELECTRA = Arm("electra", "ELECTRA", "electra", "pretrain.sh")
ROBERTA = Arm("roberta", "RoBERTa", "roberta", "pretrain_roberta.sh")
# tiny's ELECTRA has a start of its own, so there are also ELECTRA without and RoBERTa with it
ARMS = {
    "tiny": (
        ELECTRA,
        ELECTRA._replace(name="electra-paper", title="ELECTRA, paper's settings", is_plain=True),
        Arm("mlm", "RoBERTa, ELECTRA's start", "electra_mlm", "pretrain_mlm.sh"),
        ROBERTA._replace(is_plain=True, options=("--lr", "1e-3")),
    )
}
# A short run warms up for a tenth of its updates: the paper's 10 000 are too many.
WARMUP_SHARE = 10


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
    Ablation("no corrective language modelling", ["--clm-weight", "0"], True),
]


class Run(NamedTuple):
    """One pre-training with a schedule of its own."""

    name: str  # of its folders, such as electra-6.25
    model: str  # electra, electra_mlm or roberta
    title: str  # in the report
    is_ablation: bool
    budget: float  # percent of the recipe's training
    seed: int
    updates: int
    warmup: int
    script: str
    is_plain: bool
    options: List[str]


def count_cost(
    size: str,
    data: Path,
    recipe: Recipe,
    options: Sequence[str] = (),
    updates: int = 1,
    stage: int = 0,
) -> dict:
    """flops.py's count for an ELECTRA with these options, of which `stage` updates fill masks."""
    words = ["--arch", f"electra_{size}", "--data", str(data), "--updates", str(updates)]
    words += ["--tokens-per-sample", str(recipe.tokens), "--mask-prob", str(recipe.mask_prob)]
    words += ["--mlm-updates", str(stage), "--batch-size", str(recipe.batch)]
    return count_run(parse_args([*words, "--", *recipe.electra.split(), *options]))


def plan_runs(
    size: str,
    data: Path,
    recipe: Recipe,
    budgets: Sequence[float],
    ablations: bool,
    again: Sequence[float] = (),
    electra_options: Sequence[str] = (),
) -> List[Run]:
    """Each arm at each budget, smallest first, then the ablations of ELECTRA at the smallest.

    All runs of a budget cost the same FLOPs, to the nearest update. Those of the budgets in `again`
    are pre-trained with a second seed too. `electra_options` of fairseq-train are counted.
    """
    changes = list_ablations(size, recipe) if ablations else []
    recipe = recipe._replace(electra=" ".join([recipe.electra, *electra_options]))
    runs = []
    for budget in sorted(budgets):
        updates = max(1, round(recipe.updates * budget / 100))
        for seed in (1, 2) if budget in again else (1,):
            runs += [
                plan_arm(arm, size, data, recipe, budget, updates, seed, electra_options)
                for arm in ARMS.get(size, (ELECTRA, ROBERTA))
            ]
    budget = min(budgets)
    updates = max(1, round(recipe.updates * budget / 100))
    stage = choose_mlm_updates(recipe, updates)
    usual = count_cost(size, data, recipe, (), updates, stage)
    for title, options, changes_cost in changes:
        cost = count_cost(size, data, recipe, options if changes_cost else (), updates, stage)
        matched = match_updates(updates, usual["run"], cost["run"])
        name = title.replace(" ", "-").replace("/", "-").replace("_", "-")
        arm = ELECTRA._replace(name=name, title=title, options=options)
        name = f"{name}-{budget:g}"
        runs.append(make_run(arm, name, recipe, budget, matched, 1, is_ablation=True))
    return runs


def list_ablations(size: str, recipe: Recipe) -> List[Ablation]:
    """Those that differ from the recipe."""
    words = recipe.electra.split()
    own = {"--generator-size": f"{SIZES[size].generator_size:g}", "--clm-weight": "0"}
    own.update(zip(words[::2], words[1::2], strict=True))
    return [
        ablation for ablation in ABLATIONS if own.get(ablation.options[0]) != ablation.options[1]
    ]


def plan_arm(
    arm: Arm,
    size: str,
    data: Path,
    recipe: Recipe,
    budget: float,
    updates: int,
    seed: int,
    electra_options: Sequence[str] = (),
) -> Run:
    """The run of an arm that costs as much as so many updates of ELECTRA by the recipe."""
    stage = choose_mlm_updates(recipe, updates)
    usual = count_cost(size, data, recipe, (), updates, stage)
    own = find_recipe(size, paper=True) if arm.is_plain else recipe
    if arm.model == "electra" and not arm.is_plain:
        matched = updates
    else:
        counted = count_cost(size, data, own, electra_options)
        key = "per_token" if arm.model == "electra" else f"{arm.model}_per_token"
        matched = match_updates(
            updates, usual["run"] / updates, counted[key] * own.batch * own.tokens
        )
    # "-seed-N" after it is for fine-tuning's seeds, in the names of stages
    name = ("second-" if seed == 2 else "") + f"{arm.name}-{budget:g}"
    return make_run(arm, name, recipe, budget, matched, seed)


def make_run(
    arm: Arm,
    name: str,
    recipe: Recipe,
    budget: float,
    updates: int,
    seed: int,
    is_ablation: bool = False,
) -> Run:
    warmup = max(1, min(recipe.warmup, updates // WARMUP_SHARE))
    return Run(
        name,
        arm.model,
        arm.title,
        is_ablation,
        budget,
        seed,
        updates,
        warmup,
        arm.script,
        arm.is_plain,
        list(arm.options),
    )
