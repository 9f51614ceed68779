"""Convert ELECTRA's checkpoints: `python -m fairseq_electra.conversion COMMAND ...`.

    export-hf       fairseq -> Hugging Face, a folder for each network or fine-tuned head
    import-hf       Hugging Face -> fairseq, a discriminator, a generator, or both
    import-tf       the authors' TensorFlow checkpoint -> fairseq
    import-bert     Hugging Face's BERT -> a discriminator, with a new generator
    import-roberta  fairseq's RoBERTa -> a discriminator, with a new generator

OUT_DIR must not be there yet; it appears complete or not at all.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import List, Optional

import fairseq_electra
from fairseq_electra.new_folder import new_folder

NONE = "none"


def run_export_hf(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.hf_export import export_hf

    return export_hf(args.checkpoint, folder, args.data)


def run_import_hf(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.fairseq_folder import write_model
    from fairseq_electra.conversion.hf_import import import_hf

    discriminator = None if str(args.discriminator) == NONE else args.discriminator
    converted = import_hf(discriminator, args.generator, args.arch, args.generator_size)
    return write_model(folder, args.out_dir, *converted)


def run_import_tf(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.fairseq_folder import write_model
    from fairseq_electra.conversion.tf import TfTensors, import_tf

    variables = TfTensors(args.checkpoint)
    options = (args.vocab, args.cased, args.heads, args.arch, args.generator_size)
    return write_model(folder, args.out_dir, *import_tf(variables, *options))


def run_import_bert(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.bert import import_bert
    from fairseq_electra.conversion.fairseq_folder import write_model

    return write_model(folder, args.out_dir, *import_bert(args.folder, args.generator_size))


def run_import_roberta(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.fairseq_folder import write_model
    from fairseq_electra.conversion.roberta import import_roberta

    converted = import_roberta(args.checkpoint, args.data, args.generator_size)
    return write_model(folder, args.out_dir, *converted)


def add_new_parts(parser: argparse.ArgumentParser, with_arch: bool = True) -> None:
    """Options for the network that is not given."""
    parser.add_argument(
        "--generator-size",
        type=float,
        metavar="SHARE",
        help="hidden size of a new generator as a share of the discriminator's (default: the first "
        "of 1/3, 1/4 and 1/2 that gives heads 64 wide)",
    )
    if with_arch:
        parser.add_argument(
            "--arch", help="sizes of a new discriminator, such as electra_base, for a generator"
        )


def add_parser(commands, name: str, run, **options) -> argparse.ArgumentParser:
    """A command that calls run(args, folder)."""
    parser = commands.add_parser(name, **options)
    parser.set_defaults(run=run, command=name)
    return parser


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fairseq-electra",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = add_parser(commands, "export-hf", run_export_hf, help="fairseq -> Hugging Face")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    command.add_argument("--data", type=Path, help="with dict.txt and tokenizer; default: its own")
    command = add_parser(commands, "import-hf", run_import_hf, help="Hugging Face -> fairseq")
    command.add_argument("discriminator", type=Path, metavar="DISCRIMINATOR_DIR", help=f"or {NONE}")
    command.add_argument("--generator", type=Path, metavar="GENERATOR_DIR")
    add_new_parts(command)
    command = add_parser(commands, "import-tf", run_import_tf, help="TensorFlow -> fairseq")
    command.add_argument("checkpoint", type=Path, metavar="CKPT_PREFIX", help="such as model.ckpt")
    command.add_argument("--vocab", type=Path, required=True, metavar="vocab.txt")
    command.add_argument("--cased", action="store_true", help="text keeps its case")
    command.add_argument("--heads", type=int, help="discriminator's (default: hidden size / 64)")
    add_new_parts(command)
    command = add_parser(commands, "import-bert", run_import_bert, help="BERT -> ELECTRA")
    command.add_argument(
        "folder",
        type=Path,
        metavar="BERT_DIR",
        help="Hugging Face's: config.json, model.safetensors, tokenizer.json or vocab.txt",
    )
    add_new_parts(command, with_arch=False)
    command = add_parser(commands, "import-roberta", run_import_roberta, help="RoBERTa -> ELECTRA")
    command.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    command.add_argument("--data", type=Path, help="with dict.txt; default: the checkpoint's own")
    add_new_parts(command, with_arch=False)
    for command in commands.choices.values():
        command.add_argument("out_dir", type=Path, metavar="OUT_DIR")
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> List[str]:
    """Make args.out_dir; lines on what is in it. A file that fails is named by its final place."""
    with new_folder(args.out_dir) as folder:
        try:
            return args.run(args, folder)
        except OSError as error:
            raise OSError(str(error).replace(str(folder), str(args.out_dir))) from error


def run(args: argparse.Namespace) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow says of the machine
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    lines = convert(args)
    print("\n".join(lines))
    print(f"wrote {args.out_dir}")


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    logging.disable(logging.ERROR)  # whatever is logged as an error is raised as well
    fairseq_electra.register()
    try:
        run(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"fairseq-electra {args.command}: {error}") from None


if __name__ == "__main__":
    main()
