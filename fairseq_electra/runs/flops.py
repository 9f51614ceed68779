"""FLOPs of pre-training ELECTRA: a token, an update, a whole run, and RoBERTa at the same cost.

In: an arch, vocabulary, tokens a sample, batch, updates; after `--`, options of fairseq-train, of
which those that change the cost count. Out: a table, JSON, or the number of updates of RoBERTa or
of electra_mlm that cost as much.
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Dict, List, Tuple

from fairseq_electra.recipes import SIZES
from fairseq_electra.runs.count_flops import (
    PAPER,
    TRAINING,
    TransformerSize,
    electra_flops,
    first_stage_flops,
    masked_lm_flops,
    match_updates,
    mean_flops,
    without_judging,
)

FAIRSEQ_EXTRA_WORDS = 5  # <s> <pad> </s> <unk> lead dict.txt's words, <mask> follows them


def read_vocab_size(data_dir: Path) -> int:
    """Words the model sees for a folder that fairseq-preprocess wrote, specials included."""
    dictionary = data_dir / "dict.txt"
    if not dictionary.is_file():
        raise SystemExit(
            f"--data {data_dir}: no dict.txt there; give fairseq-preprocess's output folder,"
            " or --vocab-size"
        )
    with dictionary.open(encoding="utf-8") as lines:
        return sum(1 for line in lines if line.strip()) + FAIRSEQ_EXTRA_WORDS


def positive(text: str) -> int:
    """argparse type: a whole number above 0; 1e6 and 1_000_000 are understood."""
    number = float(text)
    if number < 1 or number != int(number):
        raise argparse.ArgumentTypeError(f"{text}: give a whole number above 0")
    return int(number)


def count_from_zero(text: str) -> int:
    """argparse type: a whole number from 0 on, written as for `positive`."""
    return 0 if text == "0" else positive(text)


def share(text: str) -> float:
    """argparse type: a share above 0 and at most 1."""
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text}: give a share above 0 and at most 1")
    return number


def parse_args(argv: List[str]) -> argparse.Namespace:
    """The command line; what follows `--` wins over what stands before it."""
    end = argv.index("--") if "--" in argv else len(argv)
    args = make_parser().parse_args(argv[:end])
    trained_with = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    add_training_options(trained_with)
    trained_with.parse_known_args(argv[end + 1 :], args)  # keeps what args has already
    return args


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """Options that fairseq-train has too, of the same meaning."""
    for name in ("layers", "embed-dim", "ffn-embed-dim", "attention-heads"):
        parser.add_argument(f"--encoder-{name}", type=positive, help="in place of the arch's")
    parser.add_argument("--embedding-size", type=positive, help="in place of the arch's")
    parser.add_argument("--generator-size", type=share, help="in place of the arch's")
    for name in ("layers", "ffn-embed-dim", "attention-heads", "embedding-size"):
        parser.add_argument(f"--generator-{name}", type=positive, help="as for fairseq-train")
    sharing = parser.add_mutually_exclusive_group()
    sharing.add_argument(
        "--embedding-sharing",
        choices=("all", "gdes", "none"),
        default="all",
        help="as for fairseq-train; all and gdes cost the same",
    )
    sharing.add_argument(
        "--untie-embeddings",
        dest="embedding_sharing",
        action="store_const",
        const="none",
        help="the former name of --embedding-sharing none",
    )
    for name in ("two-tower-generator", "freeze-generator"):
        parser.add_argument(f"--{name}", action="store_true", help="as for fairseq-train")
    parser.add_argument("--generator-from", help="as for fairseq-train: the generator's sizes")
    parser.add_argument("--disc-weight", type=float, default=50.0, help="0: nothing is judged")
    parser.add_argument("--clm-weight", type=float, default=0.0, help="0: nothing is corrected")
    parser.add_argument("--tokens-per-sample", type=positive, default=128)
    parser.add_argument(
        "--mask-prob",
        type=share,
        default=0.15625,
        help="share of positions with an output softmax (default: the paper's 20 of 128)",
    )


def make_parser() -> argparse.ArgumentParser:
    """The options before `--`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="electra_small", help="default: %(default)s")
    add_training_options(parser)
    vocab = parser.add_mutually_exclusive_group()
    vocab.add_argument("--vocab-size", type=positive, default=30522, help="default: %(default)s")
    vocab.add_argument("--data", type=Path, help="data-bin folder: take the vocabulary from it")
    parser.add_argument(
        "--batch-size", type=positive, default=128, help="samples an update, over all workers"
    )
    parser.add_argument("--updates", type=positive, default=1_000_000)
    parser.add_argument(
        "--mlm-updates",
        type=count_from_zero,
        default=0,
        help="of --updates, the first so many fill masks, as for fairseq-train",
    )
    parser.add_argument(
        "--paper",
        action="store_true",
        help="the paper's totals: backward as cheap as forward, dense word look-up",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--json", action="store_true", help="print JSON")
    output.add_argument(
        "--match-roberta",
        action="store_true",
        help="print only how many updates of fairseq's RoBERTa (same layers, batch and"
        " vocabulary) cost as much as --updates of ELECTRA",
    )
    output.add_argument(
        "--match-mlm",
        action="store_true",
        help="the same of electra_mlm, the discriminator's encoder trained as RoBERTa is",
    )
    return parser


def read_arch(arch: str) -> Tuple[TransformerSize, float]:
    """The discriminator's sizes and the generator size of one of the plugin's archs."""
    archs = {f"electra_{name}": size for name, size in SIZES.items()}
    if arch not in archs:
        raise SystemExit(f"--arch {arch}: choose from {', '.join(sorted(archs))}")
    *sizes, generator_size = archs[arch]
    return TransformerSize(*sizes), generator_size


def choose_size(args: argparse.Namespace) -> Tuple[TransformerSize, float]:
    """The arch's sizes, the command line's in their place."""
    given = {
        "layers": args.encoder_layers,
        "hidden": args.encoder_embed_dim,
        "ffn": args.encoder_ffn_embed_dim,
        "heads": args.encoder_attention_heads,
        "embedding": args.embedding_size,
    }
    size, generator_size = read_arch(args.arch)
    size = replace(size, **{name: number for name, number in given.items() if number})
    generator_size = args.generator_size or generator_size
    if size.generator(generator_size).hidden < 1:
        raise SystemExit(f"--generator-size {generator_size:g}: the generator would have no units")
    return size, generator_size


def choose_generator_changes(args: argparse.Namespace) -> Dict[str, int]:
    """What the command line says of the generator beside its size."""
    given = {
        "layers": args.generator_layers,
        "ffn": args.generator_ffn_embed_dim,
        "heads": args.generator_attention_heads,
        "embedding": args.generator_embedding_size,
    }
    if args.generator_from:
        from fairseq_electra.runs.given_generator import read_sizes  # slow

        given.update(read_sizes(args.generator_from))
    return {name: number for name, number in given.items() if number}


def count_run(args: argparse.Namespace) -> dict:
    """Everything the outputs show: FLOPs a token by part, an update, the run, equal RoBERTa.

    `per_token` and `per_update` are those of replaced-token detection, with `mlm_` before them
    those of the first stage.
    """
    size, generator_size = choose_size(args)
    if args.two_tower_generator and args.mlm_updates:
        raise SystemExit("--two-tower-generator reads no <mask>: leave out --mlm-updates")
    if args.clm_weight and (args.two_tower_generator or args.disc_weight == 0):
        raise SystemExit("--clm-weight goes neither with --two-tower-generator nor --disc-weight 0")
    is_untied = args.embedding_sharing == "none"
    generator = {"untied": is_untied, **choose_generator_changes(args)}
    changes = {
        "two_towers": args.two_tower_generator,
        "is_frozen": args.freeze_generator,
        **generator,
    }
    corrects = args.clm_weight > 0
    vocab_size = read_vocab_size(args.data) if args.data else args.vocab_size
    convention = PAPER if args.paper else TRAINING
    setting = (vocab_size, args.tokens_per_sample, args.mask_prob, convention)
    parts = electra_flops(size, generator_size, *setting, corrects=corrects, **changes)
    if args.disc_weight == 0:
        parts = without_judging(parts)
    mlm_parts = first_stage_flops(size, generator_size, *setting, **changes)
    per_token, mlm_per_token = sum(parts.values()), sum(mlm_parts.values())
    mean = mean_flops(args.updates, args.mlm_updates, mlm_per_token, per_token)
    roberta = sum(masked_lm_flops(size.as_roberta(), *setting).values())
    electra_mlm = sum(masked_lm_flops(size, *setting).values())
    tokens = args.batch_size * args.tokens_per_sample
    return {
        "arch": args.arch,
        "discriminator": asdict(size),
        "generator": asdict(size.generator(generator_size, **generator)),
        "two_tower_generator": args.two_tower_generator,
        "vocab_size": vocab_size,
        "mask_prob": args.mask_prob,
        "tokens_per_update": tokens,
        "updates": args.updates,
        "mlm_updates": min(args.mlm_updates, args.updates),
        "parts_per_token": parts,
        "per_token": per_token,
        "per_update": per_token * tokens,
        "mlm_parts_per_token": mlm_parts,
        "mlm_per_token": mlm_per_token,
        "mlm_per_update": mlm_per_token * tokens,
        "run": mean * tokens * args.updates,
        "roberta_per_token": roberta,
        "roberta_updates": match_updates(args.updates, mean, roberta),
        "electra_mlm_per_token": electra_mlm,
        "electra_mlm_updates": match_updates(args.updates, mean, electra_mlm),
    }


def format_table(count: dict) -> str:
    """A table of FLOPs by part, of each stage if there are two, with the equal RoBERTa below it."""
    tokens, updates, mlm_updates = (
        count[key] for key in ("tokens_per_update", "updates", "mlm_updates")
    )
    stages = f"{updates} updates" + (f", the first {mlm_updates} fill masks" if mlm_updates else "")
    where = f"{count['mask_prob']:.5g} of the positions"
    if count["two_tower_generator"]:
        where = "all positions, by two towers"
    lines = [
        f"{count['arch']}, {count['vocab_size']} words, {tokens} tokens an update,"
        f" {stages}; words predicted at {where}",
    ]
    if mlm_updates:
        first = (count["mlm_parts_per_token"], "FLOPs, masks filled", tokens, mlm_updates)
        second = (count["parts_per_token"], "FLOPs, tokens judged", tokens, updates - mlm_updates)
        lines += [*format_stage(*first), *format_stage(*second)]
        lines += [
            f"both together {count['run']:.3g}",
            f"electra_mlm, the encoder alone: {count['electra_mlm_per_token']:.3g} a token;"
            f" {count['electra_mlm_updates']} updates cost the same",
        ]
    else:
        lines += format_stage(count["parts_per_token"], "training FLOPs", tokens, updates)
    lines.append(
        f"fairseq's RoBERTa with the same layers: {count['roberta_per_token']:.3g} a token;"
        f" {count['roberta_updates']} updates cost the same"
    )
    return "\n".join(lines)


def format_stage(parts: Dict[str, float], title: str, tokens: int, updates: int) -> List[str]:
    """Lines of the table: FLOPs of each part and of all, for so many updates of so many tokens."""
    total = sum(parts.values())
    lines = [f"{title:24}{'a token':>11}{'an update':>11}{'the run':>11}{'share':>8}"]
    for part, flops in [*parts.items(), ("total", total)]:
        numbers = "".join(f"{flops * scale:11.3g}" for scale in (1, tokens, tokens * updates))
        lines.append(f"{part:24}{numbers}{flops / total:8.1%}")
    return lines


def run(args: argparse.Namespace) -> None:
    count = count_run(args)
    if args.match_roberta:
        print(count["roberta_updates"])
    elif args.match_mlm:
        print(count["electra_mlm_updates"])
    elif args.json:
        print(json.dumps(count, indent=2))
    else:
        print(format_table(count))
