"""The front door: `fairseq-electra COMMAND ...`, or `python -m fairseq_electra COMMAND ...`.

A command is a module with `parse_args(argv)` and `run(args)`. The command line is read first, and
the module imports nothing slow (numpy, torch, fairseq, transformers, matplotlib), which `run` does:
so --help and a wrong argument end at once. An error that the user can mend is a ValueError or
OSError of `run`, and one line.
"""

import importlib
import logging
import signal
import sys
from typing import List, NamedTuple, Optional

import fairseq_electra
from fairseq_electra.hub.commands import COMMANDS as ASKS


class Command(NamedTuple):
    """A command: its module, what it does, and how it is called."""

    module: str
    does: str
    example: str
    silenced: int = logging.NOTSET  # logs up to this level: it says itself what matters
    needs_fairseq: bool = True


TEXT, RUNS, HUB, CONVERSION = (
    f"fairseq_electra.{room}" for room in ("text", "runs", "hub", "conversion.__main__")
)
GROUPS = {
    "Data": {
        "prepare-data": Command(
            f"{TEXT}.prepare_data",
            "raw text -> a data-bin with its tokenizer, for pre-training",
            "prepare-data data-bin text.txt.xz --vocab-size 8000",
        ),
        "prepare-task": Command(
            f"{TEXT}.prepare_task",
            "sentences or pairs with labels, as TSV -> data to fine-tune on",
            "prepare-task task-bin data-bin tsv-folder --pairs",
        ),
        "prepare-tagging": Command(
            f"{TEXT}.prepare_tagging",
            "tagged words, as CoNLL -> data to fine-tune on",
            "prepare-tagging tag-bin data-bin conll-folder",
        ),
        "prepare-squad": Command(
            f"{TEXT}.prepare_squad",
            "questions and passages, as SQuAD's JSON -> data to fine-tune on",
            "prepare-squad squad-bin data-bin train-v1.1.json dev-v1.1.json",
            logging.WARNING,
        ),
        "prepare-pairs": Command(
            f"{TEXT}.prepare_pairs",
            "texts and what is to be written of them, as TSV -> data to generate with",
            "prepare-pairs pair-bin data-bin tsv-folder",
        ),
    },
    "Training": {
        "recipe": Command(
            f"{RUNS}.print_recipe",
            "the fairseq-train command of a size, with its batch fitted to the GPUs",
            "recipe small --gpus 8 --data data-bin --save-dir runs/electra",
            needs_fairseq=False,
        ),
        "user-dir": Command(
            f"{RUNS}.user_dir",
            "the folder for fairseq-train's --user-dir",
            'user-dir    # fairseq-train data-bin --user-dir "$(fairseq-electra user-dir)" ...',
            needs_fairseq=False,
        ),
        "flops": Command(
            f"{RUNS}.flops",
            "what a pre-training costs, and RoBERTa at the same cost",
            "flops --arch electra_small --data data-bin --updates 1000000",
            needs_fairseq=False,
        ),
        "watch": Command(
            f"{RUNS}.watch_run",
            "memory, files and disk of a running training",
            "watch 12345 runs/electra --out watched.csv",
            needs_fairseq=False,
        ),
    },
    "Results": {
        "compare": Command(
            f"{RUNS}.compare",
            "runs by their logs: a table and a plot",
            "compare ELECTRA=runs/electra RoBERTa=runs/roberta --out runs",
            needs_fairseq=False,
        ),
        "show": Command(
            f"{RUNS}.show",
            "a batch as people read it: what was replaced, and what was found",
            "show runs/electra/checkpoint_best.pt --html page.html",
            logging.ERROR,  # whatever is logged as an error is raised as well
        ),
        "features": Command(
            f"{RUNS}.features",
            "how many directions of an encoder's features are alive; a probe",
            "features ELECTRA=runs/electra/checkpoint_best.pt",
            logging.WARNING,
        ),
        "minimal-pairs": Command(
            f"{HUB}.minimal_pairs",
            "which of two sentences is right, as BLiMP asks, by each score of a model",
            "minimal-pairs runs/electra blimp/*.jsonl --out blimp.json",
            logging.ERROR,
        ),
    },
    "Use a model": {
        **{
            name: Command(f"{HUB}.commands", ask.does, ask.example, logging.ERROR)
            for name, ask in ASKS.items()
        },
        "predict": Command(
            f"{HUB}.predict",
            "labels or numbers of a task's folder",
            "predict runs/task/checkpoint_best.pt task-bin valid",
            logging.ERROR,
        ),
    },
    "Conversion": {
        "model-path": Command(
            f"{HUB}.packaged",
            "the folder of a model that comes with the package",
            'model-path electra_tiny_en    # --finetune-from-model "$(...)/checkpoint.pt"',
            needs_fairseq=False,
        ),
        "pack": Command(
            f"{HUB}.pack",
            "a checkpoint -> a small folder that can be used and trained on anywhere",
            "pack runs/electra/checkpoint_best.pt my-electra",
            logging.ERROR,
        ),
        "export-hf": Command(
            CONVERSION,
            "a checkpoint -> folders for Hugging Face",
            "export-hf runs/electra/checkpoint_best.pt hf-folder",
            logging.ERROR,
        ),
        "import-hf": Command(
            CONVERSION,
            "Hugging Face's -> a checkpoint",
            "import-hf google/discriminator --generator google/generator imported",
            logging.ERROR,
        ),
        "import-tf": Command(
            CONVERSION,
            "the authors' TensorFlow checkpoint -> a checkpoint",
            "import-tf electra_small/model.ckpt --vocab electra_small/vocab.txt imported",
            logging.ERROR,
        ),
        "import-bert": Command(
            CONVERSION,
            "Hugging Face's BERT -> a discriminator with a new generator",
            "import-bert google-bert/bert-base-uncased imported",
            logging.ERROR,
        ),
        "import-roberta": Command(
            CONVERSION,
            "fairseq's RoBERTa -> a discriminator with a new generator",
            "import-roberta runs/roberta/checkpoint_best.pt imported",
            logging.ERROR,
        ),
    },
}
SHARED = (CONVERSION, f"{HUB}.commands")  # of several commands: the name is the first argument
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}


def list_commands() -> str:
    """All commands in groups, a line each."""
    lines = ["usage: fairseq-electra COMMAND ...      (--help after it for more)"]
    for title, group in GROUPS.items():
        lines += ["", title, *(f"  {name:16} {command.does}" for name, command in group.items())]
    return "\n".join(lines)


def main(argv: Optional[List[str]] = None) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends quietly
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help"):
        print(list_commands())
        return
    if name not in COMMANDS:
        raise SystemExit(f"fairseq-electra: no command {name}; there are {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    module = importlib.import_module(command.module)
    sys.argv[0] = f"fairseq-electra {name}"  # what argparse calls it
    shared = command.module in SHARED
    try:
        args = module.parse_args([name] * shared + arguments)
    except SystemExit as stop:
        if not stop.code:  # --help
            print(f"\nexample:\n  fairseq-electra {command.example}")
        raise
    try:
        if command.needs_fairseq:
            logging.disable(logging.WARNING)  # fairseq tells what it does without
            fairseq_electra.register()
        logging.disable(command.silenced)
        module.run(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"fairseq-electra {name}: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # as shells have it, without a word


if __name__ == "__main__":
    main()
