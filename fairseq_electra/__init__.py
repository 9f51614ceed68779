"""ELECTRA (Clark et al. 2020) for fairseq: `--user-dir fairseq_electra --task electra`.

    tasks/electra.py        blocks of tokens -> batches            data/      pick, pair, tokenize
    models/electra.py       generator -> corrupted -> discriminator   modules/   the networks' parts
    criterions/electra.py   the two losses and the metrics         optim/     optimizers, schedule
    compat/                 every difference between fairseq and torch versions, and no other place
    text/                   raw files -> data-bins                 hub/       predictions
    runs/                   logs -> tables and plots, FLOPs        conversion/ checkpoints/
    process/                what a process remembers

fairseq scans only `tasks/` and `models/` of a user directory, and not even those when the package
is imported already: so importing it imports every module that registers something.
"""

import sys


def register() -> None:
    """Register all that fairseq-train names, and mend fairseq (compat/); again changes nothing."""
    from fairseq_electra import compat

    compat.apply()
    from fairseq_electra import criterions, models, optim, tasks  # noqa: F401 (registers)


def _is_command() -> bool:
    """Whether Python was started for a command of this package, which registers if it needs to.

    Some need neither fairseq nor torch, whose import takes seconds.
    """
    started = sys.argv[0] if sys.argv else ""
    if started == "-m":  # while Python looks for the module
        return any(word.split(".")[0] == __name__ for word in sys.orig_argv)
    return started.split("/")[-1] == "fairseq-electra"


if not _is_command():
    register()
