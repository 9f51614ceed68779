"""--generator-from as the counting of FLOPs sees it: sizes, read from the checkpoint."""

from typing import Dict, Optional

import fairseq_electra


def read_sizes(path: str, save_dir: Optional[str] = None) -> Dict[str, int]:
    """Changes for `TransformerSize.generator` that give the generator of a checkpoint.

    Args:
        save_dir: of the run that began with it, whose checkpoints have it too.

    Raises:
        FileNotFoundError, ValueError: if it is missing there too, or has no generator.
    """
    fairseq_electra.register()
    from fairseq_electra.models.generator_from import find_source, read_generator

    given = read_generator(find_source(path, save_dir))
    return {**given.size._asdict(), "embedding": given.width}
