"""What fairseq's ``--optimizer`` and ``--lr-scheduler`` find here, registered by importing this.

``electra_adam`` (electra_adam.py), ``electra_lamb`` (electra_lamb.py) and the schedule
``electra_decay`` (electra_decay.py); what both optimizers share is in electra_optimizer.py.
"""

from fairseq_electra.optim import electra_adam, electra_decay, electra_lamb

__all__ = ["electra_adam", "electra_decay", "electra_lamb"]
