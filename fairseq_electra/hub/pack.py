"""A pre-training's checkpoint -> a small folder that `hub.load` takes anywhere.

In: a checkpoint of --task electra. Out: both networks in float16 without the optimizer, a twelfth
of the size, with the dictionary and the tokenizer; nothing in it names where it was trained.
"""

import argparse
from pathlib import Path
from typing import List, Optional


def pack(checkpoint: Path, folder: Path, data: Optional[Path] = None) -> None:
    """Write `folder`; its checkpoint can be loaded, converted, fine-tuned, trained on.

    Args:
        data: folder with the tokenizer, if it is neither beside the checkpoint nor where that was
            trained.

    Raises:
        ValueError: if it is no checkpoint of pre-training, or its tokenizer is not found.
    """
    from fairseq_electra.checkpoints.fitting import MLM_HEAD
    from fairseq_electra.conversion.checkpoint_file import write_checkpoint
    from fairseq_electra.conversion.writing import name_failure
    from fairseq_electra.hub.loading import load_electra
    from fairseq_electra.new_folder import new_folder

    electra = load_electra(checkpoint, "cpu", data=data)
    electra.require_generator("packing")
    tensors = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in electra.model.state_dict().items()
        if not name.startswith(MLM_HEAD)
    }
    task = {name: getattr(electra.task.cfg, name) for name in ("tokens_per_sample", "mask_prob")}
    with new_folder(folder) as out, name_failure(folder):
        write_checkpoint(out / "checkpoint.pt", electra.model.cfg, tensors, Path(), **task)
        electra.tokenizer.save(out)


def parse_args(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", type=Path)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="new")
    parser.add_argument("--data", type=Path, metavar="DATA_BIN", help="if it has moved")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    pack(args.checkpoint, args.folder, args.data)
