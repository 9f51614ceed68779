"""ELECTRA against RoBERTa at equal compute: prepare, pre-train, fine-tune on GLUE, report.

Each budget is a share of the paper's training; both models get the same FLOPs, each run a schedule
of its own. OUT_DIR/progress.log says what runs, OUT_DIR/report has table and plot of all that is
done so far. Run the same command again to go on after an interruption.
"""

import argparse
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import List, Optional, Tuple

from fairseq_electra.new_folder import exit_on_signals
from fairseq_electra.recipes import find_recipe
from scripts.benchmark.peak import measure_machine
from scripts.evidence.plan import MODELS, SCRIPTS, Run, plan_runs
from scripts.evidence.report import write_report
from scripts.evidence.stages import Stage, Stages
from scripts.glue.run import read_seeds
from scripts.glue.tasks import find_tasks

ENVIRONMENT = """environment:
  GLUE_DIR     GLUE's own files, a folder a task (default: glue)
  SIZE         small (default), base, large, tiny
  SEEDS        of fine-tuning, default "1 2 3"
  MICRO_BATCH  sequences a device takes at once in pre-training
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
        """Pre-train, or go on with it; RoBERTa gets as many FLOPs as an ELECTRA of `updates`."""
        folder = self.out_dir / "pretrained" / run.name
        script = "pretrain.sh" if run.model == "electra" else "pretrain_roberta.sh"
        extra = getattr(self.args, f"{run.model}_options").split()
        options = ["--warmup-updates", str(run.warmup), *run.options, *extra]
        if run.model == "electra":
            options = ["--max-update", str(run.updates), *options]
        command = [str(SCRIPTS / script), str(self.out_dir / "data-bin"), str(folder), *options]
        environment = {"SIZE": self.args.size, "ELECTRA_UPDATES": str(run.updates)}
        return self.stages.run(Stage(f"pretrain-{run.name}", command, environment))

    def finetune(self, run: Run) -> None:
        """Fine-tune on all tasks, seed by seed, and report after each."""
        checkpoint = self.out_dir / "pretrained" / run.name / "checkpoint_last.pt"
        out = self.out_dir / "finetuned" / run.name
        for seed in self.args.seeds:
            command = [str(SCRIPTS / "finetune_glue.sh"), "all", str(checkpoint), str(out)]
            environment = {
                "SIZE": self.args.size,
                "MODEL": run.model,
                "GLUE_DIR": str(self.args.glue_dir),
                "DATA": str(self.out_dir / "data-bin"),
                "SEEDS": str(seed),
            }
            command += self.args.finetune_options.split()
            self.stages.run(Stage(f"finetune-{run.name}-seed-{seed}", command, environment))
            self.report()

    def report(self) -> None:
        """Table and plot of what is done; one thread at a time."""
        with self.reporting:
            write_report(self.out_dir)

    def go(self) -> None:
        """All runs of a budget, then those of the next; several fine-tunings at a time."""
        for group in dict.fromkeys(map(name_group, self.runs)):
            runs = [run for run in self.runs if name_group(run) == group]
            ready = [run for run in runs if self.pretrain(run)]
            self.report()
            with ThreadPoolExecutor(self.args.jobs) as pool:
                try:
                    list(pool.map(self.finetune, ready))
                finally:
                    if sys.exc_info()[0]:
                        self.stages.stop()


def name_group(run: Run) -> Tuple[bool, float]:
    """What is pre-trained before any of it is fine-tuned: a budget, or the ablations."""
    return run.title not in MODELS.values(), run.budget


def percent(text: str) -> float:
    number = float(text)
    if not 0 < number <= 100:
        raise argparse.ArgumentTypeError(f"{text}: a budget is above 0 and at most 100 percent")
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
        help="of the paper's updates (default: 1.6 3.1 6.25)",
    )
    parser.add_argument("--no-ablations", action="store_true")
    parser.add_argument("--jobs", type=int, default=1, help="models fine-tuned at a time")
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
    args.glue_dir = Path(os.environ.get("GLUE_DIR", "glue"))
    args.seeds = read_seeds(os.environ.get("SEEDS", "1 2 3"))
    return args


def prepare(args: argparse.Namespace) -> Stage:
    """The stage that makes the data-bin."""
    command = [str(SCRIPTS / "prepare_data.sh"), str(args.out_dir / "data-bin"), *args.texts]
    for name in ("vocab", "vocab_size"):
        if getattr(args, name):
            command += [f"--{name.replace('_', '-')}", getattr(args, name)]
    return Stage("prepare", command, {})


def claim(args: argparse.Namespace) -> None:
    """Note in OUT_DIR what its runs are of.

    Raises:
        ValueError: if it holds runs of something else; more budgets and seeds are no such thing.
    """
    start = {
        name: getattr(args, name)
        for name in ("size", "texts", "vocab", "vocab_size", "electra_options", "roberta_options")
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
    plan = {
        "size": args.size,
        "seeds": args.seeds,
        "tasks": [task.name for task in find_tasks(args.glue_dir, "all")],
        "runs": [run._asdict() for run in runs],
        "machine": measure_machine(args.out_dir / "machine.json"),
        "command": command,
    }
    (args.out_dir / "plan.json").write_text(json.dumps(plan, indent=1) + "\n", "utf-8")


def main(argv: Optional[List[str]] = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    stages = None
    try:
        args = parse_args(words)
        recipe = find_recipe(args.size)
        find_tasks(args.glue_dir, "all")
        stages = Stages(args.out_dir)
        claim(args)
        with exit_on_signals():
            if stages.run(prepare(args)):
                data = args.out_dir / "data-bin"
                runs = plan_runs(args.size, data, recipe, args.budgets, not args.no_ablations)
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
