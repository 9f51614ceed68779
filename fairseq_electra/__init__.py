"""ELECTRA (Clark et al. 2020) for fairseq: `--user-dir fairseq_electra --task electra`.

    tasks/electra.py        blocks of tokens -> batches            data/      pick, pair, tokenize
    models/electra.py       generator -> corrupted -> discriminator   modules/   the networks' parts
    criterions/electra.py   the two losses and the metrics         optim/     optimizers, schedule
    compat/                 every difference between fairseq and torch versions, and no other place

fairseq scans only `tasks/` and `models/` of a user directory, and not even those when the package
is imported already: so this file imports every module that registers something.
"""

from fairseq_electra import compat

compat.apply()

from fairseq_electra import criterions, models, optim, tasks  # noqa: E402, F401 (after compat)
