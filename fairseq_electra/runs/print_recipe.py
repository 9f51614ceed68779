"""Print the fairseq-train command of a size: the paper's settings, with its batch fitted to GPUs.

Everything after `--` is for fairseq-train and wins over the settings. Updates of RoBERTa and of
electra_mlm are as many as cost what ELECTRA's cost.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import List, Optional

from fairseq_electra import recipes
from fairseq_electra.recipes import Batch, Machine, Recipe, read_option
from fairseq_electra.runs import flops
from fairseq_electra.runs.flops import positive
from fairseq_electra.text.finetune_data import read_finetune_data, require

PACKAGE = Path(__file__).resolve().parents[1]
GPU_GB = 80  # of a GPU that is not here
PRECISIONS = {
    f"--{name}"
    for name in (
        "precision",
        "amp",
        "fp16",
        "bf16",
        "memory-efficient-fp16",
        "memory-efficient-bf16",
    )
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage="fairseq-electra recipe SIZE [options] [-- fairseq-train options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("size", metavar="SIZE", choices=recipes.SIZES, help=", ".join(recipes.SIZES))
    add("--model", choices=recipes.MODELS, default="electra", help="default: %(default)s")
    add("--gpus", type=int, help="of all machines together; 0: the CPU (default: this machine's)")
    add("--gpu-memory", type=positive, metavar="GB", help=f"of one (default: its own, or {GPU_GB})")
    add("--data", type=Path, help="folder of the data")
    add("--save-dir", help="folder of the checkpoints")
    pretraining = parser.add_argument_group("pre-training")
    add = pretraining.add_argument
    add("--micro-batch", type=positive, metavar="N", help="sequences a GPU takes at once")
    add("--budget", choices=recipes.BUDGETS, help="of tiny, on one core (default: minutes)")
    add("--plain", action="store_true", help="for tiny too the paper's plain settings")
    add(
        "--electra-options",
        default="",
        metavar='"..."',
        help="of RoBERTa or electra_mlm: fairseq-train options of the ELECTRA to match, such as "
        "--max-update",
    )
    finetuning = parser.add_argument_group("fine-tuning")
    add = finetuning.add_argument
    add("--finetune", choices=recipes.FINETUNE_TASKS, help="on --data, made by prepare-task, ...")
    add("--checkpoint", default="none", help="of pre-training, or none: random weights (default)")
    add("--epochs", type=positive, help="default: 3, of answers 2")
    return parser


def find_machine(gpus: Optional[int], gpu_gb: Optional[int]) -> Machine:
    """This machine, or one with so many GPUs, which are this one's or those of `GPU_GB`."""
    cores = os.cpu_count() or 1
    here = 0
    if os.environ.get("CUDA_VISIBLE_DEVICES") != "":
        import torch  # takes seconds: not for --help, nor where GPUs are hidden

        here = torch.cuda.device_count()
    if here:
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        memory = torch.cuda.get_device_properties(0).total_memory >> 20
        machine = Machine(here, has_bf16, memory, cores)
    else:
        machine = Machine(0, True, GPU_GB << 10, cores)
    if gpus is not None and gpus != machine.gpus:
        share = cores // here if here else recipes.MOST_LOADERS
        machine = machine._replace(gpus=gpus, cores=share * gpus)
    return machine._replace(gpu_mb=gpu_gb << 10) if gpu_gb else machine


def match_electra(args: argparse.Namespace, recipe: Recipe) -> int:
    """Updates of another model that cost as much as ELECTRA's; sizes among its options are both's.

    Raises:
        ValueError: for an option whose value is no number.
    """
    options = args.electra_options.split()
    updates = read_option(options, "--max-update", recipe.updates)
    stage = recipes.choose_mlm_updates(recipe, updates)
    stage = read_option(options, "--mlm-updates", stage, least=0)
    words = ["--arch", f"electra_{args.size}", "--updates", updates, "--mlm-updates", stage]
    words += ["--tokens-per-sample", recipe.tokens, "--mask-prob", recipe.mask_prob]
    words += ["--data", args.data] if args.data else []
    words += ["--", *recipe.electra.split(), *options, *args.options]
    count = flops.count_run(flops.parse_args(list(map(str, words))))
    matched = count[f"{args.model}_updates"]
    say(f"{args.model}: {matched} updates cost as much as ELECTRA's {updates}")
    return matched


def say(line: str) -> None:
    print(line, file=sys.stderr)


def pretrain(args: argparse.Namespace, recipe: Recipe, machine: Machine) -> List[str]:
    """Lines of options of a pre-training."""
    if args.data:
        require(args.data, "prepare-data", args.data / "dict.txt")
    batch = recipes.fit_batch(recipe, machine, args.micro_batch)
    if batch.total != recipe.batch:
        say(describe_batch(batch, recipe))
    batch = batch._replace(sequences=read_option(args.options, "--batch-size", batch.sequences))
    if "--generator-from" in {option.split("=")[0] for option in args.options}:  # has the sizes
        recipe = recipe._replace(electra=recipe.electra.replace(recipes.TINY.electra, "").strip())
    has_length = "--max-update" in {option.split("=")[0] for option in args.options}
    usual = recipe.updates if args.model == "electra" or has_length else match_electra(args, recipe)
    updates = read_option(args.options, "--max-update", usual)
    return recipes.pretraining(args.size, args.model, recipe, machine, batch, updates)


def describe_batch(batch: Batch, recipe: Recipe) -> str:
    product = f"{batch.devices} device(s) x {batch.sequences} x {batch.update_freq}"
    return f"a batch of {batch.total} sequences for {recipe.batch}: {product}"


def finetune(args: argparse.Namespace, recipe: Recipe, machine: Machine) -> List[str]:
    """Lines of options of a fine-tuning, whose length follows from its data."""
    start = args.checkpoint
    if start != "none" and not Path(start).is_file():
        raise FileNotFoundError(f"no checkpoint {start}")
    data = read_finetune_data(args.finetune, args.data, args.options)
    batch = read_option(args.options, "--batch-size", recipes.FINETUNE_BATCH)
    batch *= read_option(args.options, "--update-freq", 1)
    epochs = args.epochs or recipes.FINETUNE_EPOCHS[args.finetune]
    updates = -(-data.examples // batch) * epochs
    return [
        *recipes.finetuning(
            args.size, args.model, args.finetune, recipe, machine, data.goal, updates
        ),
        # --restore-file would start anew on every call
        "" if start == "none" else f"--finetune-from-model {shlex.quote(start)}",
    ]


def format_command(args: argparse.Namespace, lines: List[str]) -> str:
    """The whole command, to be run by a shell."""
    folders = f"{shlex.quote(str(args.data or 'DATA_BIN'))} --user-dir {shlex.quote(str(PACKAGE))}"
    folders += f" --save-dir {shlex.quote(args.save_dir or 'SAVE_DIR')}"
    lines = [f"fairseq-train {folders}", *lines, shlex.join(args.options)]
    return " \\\n    ".join(line for line in lines if line)


def parse_args(argv: List[str]) -> argparse.Namespace:
    """The command line; `options` is what follows `--`."""
    end = argv.index("--") if "--" in argv else len(argv)
    parser = make_parser()
    args = parser.parse_args(argv[:end])
    args.options = argv[end + 1 :]
    if args.size != "tiny" and args.budget:
        parser.error("--budget is a choice of tiny: for the others see --max-update")
    if args.finetune and not args.data:
        parser.error("--finetune needs --data: the updates follow from its size")
    if args.gpus is not None and args.gpus < 0:
        parser.error("--gpus must be a whole number, 0 or more")
    return args


def run(args: argparse.Namespace) -> None:
    recipe = recipes.find_recipe(args.size, args.budget or "minutes", args.plain)
    machine = find_machine(args.gpus, args.gpu_memory)
    lines = (finetune if args.finetune else pretrain)(args, recipe, machine)
    if PRECISIONS.intersection(each.split("=")[0] for each in args.options):  # not two
        own = recipes.precision(machine, args.model)
        lines = [line for line in lines if line == "--cpu" or line != own]
    if not args.finetune and args.gpus:
        lines.append(f"--distributed-world-size {args.gpus}")
    print(format_command(args, lines))
