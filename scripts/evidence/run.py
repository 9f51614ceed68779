"""ELECTRA against RoBERTa at equal compute: prepare, pre-train, fine-tune on GLUE, report.

Each budget is a share of the paper's training, or with SIZE=tiny of BUDGET's; all models get the
same FLOPs, each run a schedule of its own. OUT_DIR/progress.log says what runs, OUT_DIR/report has
table and plot of all that is done so far. The same command goes on after an interruption.
"""

import argparse
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Optional, Tuple

from fairseq_electra.new_folder import exit_on_signals, write_whole_text
from fairseq_electra.recipes import BUDGETS, find_recipe
from scripts.benchmark.peak import measure_machine
from scripts.evidence.plan import SCRIPTS, Run, plan_runs
from scripts.evidence.report import write_report
from scripts.evidence.stages import Stage, Stages
from scripts.glue.run import read_seeds
from scripts.glue.tasks import find_tasks

PROBED = 4000  # sentences that a probe of frozen features is fitted to
ENVIRONMENT = """environment:
  GLUE_DIR     GLUE's own files, a folder a task (default: glue)
  SIZE         small (default), base, large, tiny
  BUDGET       of tiny: minutes (default), hour, night
  SEEDS        of fine-tuning, default "1 2 3"
  MICRO_BATCH  sequences a device takes at once in pre-training
  CONLL_DIR    train.txt and valid.txt, a word and its tag a line: tagging is measured too,
               fine-tuned and by frozen features
  BLIMP_DIR    *.jsonl: minimal pairs are measured too
"""


class Experiment:
    """All runs, and the stages that they consist of."""

    def __init__(self, args: argparse.Namespace, stages: Stages, runs: List[Run]):
        self.args = args
        self.stages = stages
        self.runs = runs
        self.out_dir: Path = args.out_dir
        self.reporting = threading.Lock()

    def pretrain(self, run: Run) -> bool:
        """Pre-train, or go on with it."""
        extra = "roberta_options" if run.model == "roberta" else "electra_options"
        command = [
            *(str(SCRIPTS / run.script), str(self.out_dir / "data-bin")),
            *(str(self.out_dir / "pretrained" / run.name), "--max-update", str(run.updates)),
            *("--warmup-updates", str(run.warmup), "--seed", str(run.seed)),
            *(*run.options, *getattr(self.args, extra).split()),
        ]
        environment = {"SIZE": self.args.size, "RECIPE": "paper" if run.is_plain else "local"}
        return self.stages.run(Stage(f"pretrain-{run.name}", command, environment))

    def measure(self, run: Run) -> None:
        """Fine-tune, seed by seed, and report after each; then what needs no tuning."""
        checkpoint = str(self.out_dir / "pretrained" / run.name / "checkpoint_last.pt")
        environment = {
            "SIZE": self.args.size,
            "MODEL": "roberta" if run.model == "roberta" else "electra",
        }
        for seed in self.args.seeds:
            self.finetune(run, checkpoint, environment, seed)
            self.report()
        front_door = [sys.executable, "-m", "fairseq_electra"]
        if self.args.blimp_dir:
            files = map(str, sorted(self.args.blimp_dir.glob("*.jsonl")))
            out = self.make_folder("pairs") / f"{run.name}.json"
            command = [*front_door, "minimal-pairs", checkpoint, *files, "--out", str(out)]
            self.stages.run(Stage(f"pairs-{run.name}", command, {}, out))
        out = self.make_folder("features") / f"{run.name}.json"
        command = [*front_door, "features", f"last={checkpoint}", "--out", str(out)]
        if self.args.conll_dir:
            files = (self.args.conll_dir / f"{split}.txt" for split in ("train", "valid"))
            command += ["--sentences", str(PROBED), "--probe", *map(str, files)]
        self.stages.run(Stage(f"features-{run.name}", command, {}))
        self.report()

    def finetune(self, run: Run, checkpoint: str, environment: dict, seed: int) -> None:
        """On GLUE, and if there are tags on them."""
        out = self.out_dir / "finetuned" / run.name
        options = self.args.finetune_options.split()
        command = [str(SCRIPTS / "finetune_glue.sh"), "all", checkpoint, str(out), *options]
        glue = {
            "GLUE_DIR": str(self.args.glue_dir),
            "DATA": str(self.out_dir / "data-bin"),
            "SEEDS": str(seed),
        }
        name = f"{run.name}-seed-{seed}"
        self.stages.run(Stage(f"finetune-{name}", command, {**environment, **glue}))
        if self.args.conll_dir:
            script = str(SCRIPTS / "finetune_tagging.sh")
            out = self.out_dir / "tagged" / run.name / f"seed-{seed}"
            command = [script, str(self.out_dir / "tag-bin"), str(out), checkpoint, "--no-save"]
            command += ["--seed", str(seed), *options]
            self.stages.run(Stage(f"tag-{name}", command, environment))

    def make_folder(self, name: str) -> Path:
        (self.out_dir / name).mkdir(exist_ok=True)
        return self.out_dir / name

    def report(self) -> None:
        """Table and plot of what is done; one thread at a time."""
        with self.reporting:
            write_report(self.out_dir)

    def go(self) -> None:
        """All runs of a budget, then those of the next; several fine-tunings at a time.

        Of tiny, which takes a core, several pre-trainings too.
        """
        for group in dict.fromkeys(map(name_group, self.runs)):
            runs = [run for run in self.runs if name_group(run) == group]
            work = self.pretrain_and_measure
            if self.args.size != "tiny":
                runs = [run for run in runs if self.pretrain(run)]
                self.report()
                work = self.measure
            with ThreadPoolExecutor(self.args.jobs) as pool:
                try:
                    list(pool.map(work, runs))
                finally:
                    if sys.exc_info()[0]:
                        self.stages.stop()

    def pretrain_and_measure(self, run: Run) -> None:
        if self.pretrain(run):
            self.measure(run)


def name_group(run: Run) -> Tuple[bool, float]:
    """What is pre-trained before any of it is fine-tuned: a budget, or the ablations."""
    return run.is_ablation, run.budget


def percent(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: a budget is above 0 percent")
    return number


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="reproduce.sh",
        description=__doc__,
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("out_dir", metavar="OUT_DIR", type=Path)
    parser.add_argument("texts", metavar="TEXT", nargs="+", help="raw text, as for prepare_data.sh")
    parser.add_argument("--vocab", help="WordPiece vocabulary, as for prepare_data.sh")
    parser.add_argument("--vocab-size", help="of a new tokenizer, as for prepare_data.sh")
    parser.add_argument(
        "--budgets",
        nargs="+",
        type=percent,
        default=[1.6, 3.1, 6.25],
        metavar="PERCENT",
        help="of the recipe's updates (default: 1.6 3.1 6.25)",
    )
    parser.add_argument(
        "--second-seed",
        nargs="+",
        type=percent,
        default=[],
        metavar="PERCENT",
        help="budgets that are pre-trained with a second seed too",
    )
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="models fine-tuned at a time, of tiny pre-trained too",
    )
    for model in ("electra", "roberta", "finetune"):
        parser.add_argument(
            f"--{model}-options",
            default="",
            metavar='"..."',
            help=f"further fairseq-train options of {model}'s runs, such as "
            + {"electra": "--temperature 0.9", "roberta": "--dropout 0", "finetune": "--lr 2e-4"}[
                model
            ],
        )
    args = parser.parse_args(argv)
    args.size = os.environ.get("SIZE", "small")
    args.budget = os.environ.get("BUDGET") or "minutes"
    if set(args.second_seed) - set(args.budgets):
        parser.error("--second-seed: name some of --budgets")
    for name in ("conll_dir", "blimp_dir"):
        folder = os.environ.get(name.upper())
        setattr(args, name, Path(folder) if folder else None)
    args.glue_dir = Path(os.environ.get("GLUE_DIR", "glue"))
    args.seeds = read_seeds(os.environ.get("SEEDS", "1 2 3"))
    return args


def check_folders(args: argparse.Namespace) -> None:
    """Whether the texts are there, and the environment's folders hold what is read of them.

    Raises:
        ValueError: if not.
    """
    for text in args.texts:
        if not Path(text).is_file():
            raise ValueError(f"no text {text}")
    folders = [(args.conll_dir, f"{split}.txt") for split in ("train", "valid")]
    for folder, wanted in (*folders, (args.blimp_dir, "*.jsonl")):
        if folder and not any(folder.glob(wanted)):
            raise ValueError(f"no {wanted} in {folder}")


def prepare(args: argparse.Namespace) -> Stage:
    """The stage that makes the data-bin."""
    command = [str(SCRIPTS / "prepare_data.sh"), str(args.out_dir / "data-bin"), *args.texts]
    for name in ("vocab", "vocab_size"):
        if getattr(args, name):
            command += [f"--{name.replace('_', '-')}", getattr(args, name)]
    return Stage("prepare", command, {}, args.out_dir / "data-bin")


def prepare_tags(args: argparse.Namespace) -> Stage:
    """The stage that makes the data of tagging, with the tokenizer of the data-bin."""
    out = args.out_dir / "tag-bin"
    command = [SCRIPTS / "prepare_tagging.sh", out, args.out_dir / "data-bin", args.conll_dir]
    return Stage("prepare-tags", list(map(str, command)), {}, out)


def claim(args: argparse.Namespace) -> None:
    """Note in OUT_DIR what its runs are of.

    Raises:
        ValueError: if it holds runs of something else; more budgets and seeds are no such thing.
    """
    start = {
        name: getattr(args, name)
        for name in (
            *("size", "budget", "texts", "vocab", "vocab_size"),
            *("electra_options", "roberta_options"),
        )
    }
    note = args.out_dir / "start.json"
    if not note.exists():
        note.write_text(json.dumps(start, indent=1) + "\n", "utf-8")
    before = json.loads(note.read_text("utf-8"))
    differ = [f"{name} {before.get(name)}" for name in start if before.get(name) != start[name]]
    if differ:
        raise ValueError(f"{args.out_dir} holds runs of {', '.join(differ)}: name another OUT_DIR")


def write_plan(args: argparse.Namespace, runs: List[Run], command: List[str]) -> None:
    """plan.json, from which the report knows what has not run yet."""
    path = args.out_dir / "plan.json"
    before = json.loads(path.read_text("utf-8"))["seeds"] if path.exists() else []
    plan = {
        "size": args.size,
        "budget": args.budget,
        "seeds": sorted({*before, *args.seeds}),  # the report has the scores of all
        "tasks": [task.name for task in find_tasks(args.glue_dir, "all")],
        "others": [name for name in ("conll_dir", "blimp_dir") if getattr(args, name)],
        "runs": [run._asdict() for run in runs],
        "machine": measure_machine(args.out_dir / "machine.json"),
        "command": command,
    }
    write_whole_text(path, json.dumps(plan, indent=1) + "\n")


def main(argv: Optional[List[str]] = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    stages = None
    try:
        args = parse_args(words)
        if args.budget not in BUDGETS:
            raise ValueError(f"BUDGET must be one of {', '.join(BUDGETS)}, not '{args.budget}'")
        recipe = find_recipe(args.size, args.budget)
        find_tasks(args.glue_dir, "all")
        check_folders(args)
        stages = Stages(args.out_dir)
        claim(args)
        with exit_on_signals():
            if stages.run(prepare(args)) and (not args.conll_dir or stages.run(prepare_tags(args))):
                data = args.out_dir / "data-bin"
                ablations = not args.no_ablations
                runs = plan_runs(
                    *(args.size, data, recipe, args.budgets, ablations, args.second_seed),
                    args.electra_options.split(),
                )
                write_plan(args, runs, words)
                Experiment(args, stages, runs).go()
    except (ValueError, OSError) as error:
        sys.exit(f"reproduce.sh: {error}")
    finally:
        if stages is not None:
            stages.stop()
    if stages.failed:
        sys.exit(f"reproduce.sh: failed, see {args.out_dir}/logs: {', '.join(stages.failed)}")
    print(f"table and plot: {args.out_dir / 'report'}")
