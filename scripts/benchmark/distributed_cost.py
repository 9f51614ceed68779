"""What a pre-training distributed over GPUs costs, on paper: bytes exchanged, time, efficiency.

In: an arch, a batch, what a GPU and the network do. Out: a table by number of GPUs. All of it is
computed, nothing measured. The all-reduce is a ring's: each GPU sends and receives
2 (N - 1) / N of the gradients, in 2 (N - 1) steps.
"""

import argparse
from typing import NamedTuple

from fairseq_electra.runs.flops import count_run, positive, read_arch, share
from fairseq_electra.runs.flops import parse_args as parse_flops

BATCHES = {  # sequences an update and their length, paper's table 6
    "electra_small": (128, 128),
    "electra_base": (256, 512),
    "electra_large": (2048, 512),
}
GRADIENT_BYTES = 4  # float32, with --precision bf16 too


class Machine(NamedTuple):
    """What is assumed of the hardware: FLOP/s, bytes/s each way, seconds a message, GPUs a node."""

    flops: float
    node_bytes: float
    network_bytes: float
    latency: float
    gpus_per_node: int


class Cost(NamedTuple):
    """An update on `gpus` GPUs: sequences and bytes of each, seconds, efficiency of one GPU's."""

    gpus: int
    sequences: float
    bytes: float
    compute: float
    exchange: float
    plain: float
    overlapped: float


def count_parameters(arch: str, vocab_size: int) -> int:
    """Parameters of both networks, shared ones once."""
    import torch
    from fairseq.data import Dictionary
    from fairseq.models import ARCH_CONFIG_REGISTRY

    from fairseq_electra.models.electra import ElectraModel
    from fairseq_electra.models.electra_config import ElectraConfig

    read_arch(arch)  # names the archs if this is none
    changes = argparse.Namespace()
    ARCH_CONFIG_REGISTRY[arch](changes)
    words = Dictionary()
    for word in range(vocab_size - len(words) - 1):
        words.add_symbol(f"w{word}")
    words.add_symbol("<mask>")
    with torch.device("meta"):
        model = ElectraModel(ElectraConfig(**vars(changes)), words, True)
    return sum(parameter.numel() for parameter in model.parameters())


def estimate(gpus: int, batch: int, flops: float, gradients: float, machine: Machine) -> Cost:
    """Seconds and efficiency of an update of `batch` sequences that costs `flops` in all.

    A GPU has at least one sequence. The backward pass, two thirds of the computation, is what an
    exchange can hide behind (pytorch_ddp); legacy_ddp, the CPU's, hides nothing.
    """
    compute = flops * -(-batch // gpus) / batch / machine.flops  # the fullest GPU
    sent = 2 * (gpus - 1) / gpus * gradients
    inside = gpus <= machine.gpus_per_node
    rate = machine.node_bytes if inside else machine.network_bytes
    exchange = sent / rate + 2 * (gpus - 1) * machine.latency
    ideal = flops / machine.flops / gpus
    hidden = compute + max(0.0, exchange - 2 / 3 * compute)
    return Cost(
        gpus,
        batch / gpus,
        sent,
        compute,
        exchange,
        ideal / (compute + exchange),
        ideal / hidden,
    )


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="electra_small", choices=sorted(BATCHES))
    parser.add_argument("--batch-size", type=positive, help="sequences an update (the paper's)")
    parser.add_argument("--gpus", type=positive, nargs="+", default=[1, 8, 64, 256, 1000])
    parser.add_argument("--vocab-size", type=positive, default=30522)
    parser.add_argument("--peak", type=float, default=989, help="TFLOP/s of a GPU, bf16 (H100)")
    parser.add_argument("--use", type=share, default=0.4, help="share of the peak that is reached")
    parser.add_argument("--nvlink", type=float, default=450, help="GB/s a GPU inside a node")
    parser.add_argument("--network", type=float, default=400, help="Gbit/s a GPU between nodes")
    parser.add_argument("--latency", type=float, default=5, help="microseconds a ring's step")
    parser.add_argument("--gpus-per-node", type=positive, default=8)
    return parser.parse_args(argv)


def count_update(args: argparse.Namespace, batch: int, tokens: int) -> float:
    """FLOPs of an update, by flops.py."""
    options = ["--arch", args.arch, "--batch-size", str(batch), "--tokens-per-sample", str(tokens)]
    return count_run(parse_flops([*options, "--vocab-size", str(args.vocab_size)]))["per_update"]


def main(argv=None) -> None:
    args = parse_args(argv)
    batch, tokens = BATCHES[args.arch]
    batch = args.batch_size or batch
    parameters = count_parameters(args.arch, args.vocab_size)
    machine = Machine(
        args.peak * 1e12 * args.use,
        args.nvlink * 1e9,
        args.network * 1e9 / 8,
        args.latency * 1e-6,
        args.gpus_per_node,
    )
    flops = count_update(args, batch, tokens)
    print(
        f"{args.arch}: {parameters / 1e6:.1f} M parameters, {batch} x {tokens} tokens and "
        f"{flops:.3g} FLOPs an update; computed, not measured"
    )
    print("| GPUs | sequences a GPU | MB sent a GPU | compute ms | exchange ms | efficiency |")
    print("|---|---|---|---|---|---|")
    for gpus in args.gpus:
        cost = estimate(gpus, batch, flops, parameters * GRADIENT_BYTES, machine)
        print(
            f"| {gpus} | {cost.sequences:.3g} | {cost.bytes / 1e6:.0f} | {cost.compute * 1e3:.3g} "
            f"| {cost.exchange * 1e3:.3g} | {cost.plain:.0%}, overlapped {cost.overlapped:.0%} |"
        )
