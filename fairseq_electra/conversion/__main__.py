"""Convert ELECTRA's checkpoints: `python -m fairseq_electra.conversion COMMAND ...`.

    export-hf       fairseq -> Hugging Face, a folder for each network or fine-tuned head
    import-hf       Hugging Face -> fairseq, a discriminator, a generator, or both
    import-tf       the authors' TensorFlow checkpoint -> fairseq
    import-roberta  fairseq's RoBERTa -> a discriminator, with a new generator

OUT_DIR must not be there yet; it appears complete or not at all.
"""

import argparse
import logging
import os
from pathlib import Path
from typing import List, Optional

import fairseq_electra
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.conversion.networks import Converted
from fairseq_electra.conversion.writing import name_failure
from fairseq_electra.data.tokenizer import Tokenizer
from fairseq_electra.new_folder import new_folder

NONE = "none"


def write_model(
    folder: Path, out_dir: Path, converted: Converted, tokenizer: Optional[Tokenizer]
) -> List[str]:
    """Write checkpoint.pt, dict.txt and the tokenizer; lines on what is in them."""
    words = converted.dictionary.symbols[4:-1]
    lines = "".join(f"{word} 1\n" for word in words)
    with name_failure(folder):
        if tokenizer is not None:
            tokenizer.save(folder)
        (folder / "dict.txt").write_text(lines, encoding="utf-8")
    data = out_dir.resolve()
    write_checkpoint(folder / "checkpoint.pt", converted.cfg, converted.tensors, data)
    return [*converted.notes, describe_sizes(converted)]


def describe_sizes(converted: Converted) -> str:
    """The options with which fairseq-train builds the model."""
    cfg = converted.cfg
    sizes = (
        *("encoder_layers", "encoder_embed_dim", "encoder_ffn_embed_dim"),
        *("encoder_attention_heads", "embedding_size", "generator_size", "max_positions"),
        *("generator_layers", "generator_ffn_embed_dim", "generator_attention_heads"),
    )
    options = [
        f"--{name.replace('_', '-')} {getattr(cfg, name)}"
        for name in sizes
        if getattr(cfg, name) is not None
    ]
    if cfg.untie_embeddings:
        options.append("--untie-embeddings")
    return f"sizes: --arch electra {' '.join(options)}"


def run_export_hf(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.hf_export import export_hf

    return export_hf(args.checkpoint, folder, args.data)


def run_import_hf(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.hf_import import import_hf

    discriminator = None if str(args.discriminator) == NONE else args.discriminator
    converted = import_hf(discriminator, args.generator, args.arch, args.generator_size)
    return write_model(folder, args.out_dir, *converted)


def run_import_tf(args: argparse.Namespace, folder: Path) -> List[str]:
    from fairseq_electra.conversion.tf import TfTensors, import_tf

    variables = TfTensors(args.checkpoint)
    options = (args.vocab, args.cased, args.heads, args.arch, args.generator_size)
    return write_model(folder, args.out_dir, *import_tf(variables, *options))


def run_import_roberta(args: argparse.Namespace, folder: Path) -> List[str]:
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


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what TensorFlow says of the machine
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        lines = convert(args)
    except (ValueError, OSError) as error:
        raise SystemExit(f"fairseq-electra {args.command}: {error}") from None
    print("\n".join(lines))
    print(f"wrote {args.out_dir}")


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # whatever is logged as an error is raised as well
    fairseq_electra.register()
    main()
