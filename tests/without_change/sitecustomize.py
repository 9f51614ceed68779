"""Leave out one change of compat/, the one that WITHOUT_CHANGE names, in every Python process.

Python imports this file when it starts and finds it on PYTHONPATH (see test_changes.py).
"""

import importlib.abc
import importlib.machinery
import os
import sys

COMPAT = "fairseq_electra.compat"


class Finder(importlib.abc.MetaPathFinder):
    """Finds compat/ as Python would, and has it loaded without the change."""

    def find_spec(self, name, path=None, target=None):
        if name != COMPAT:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            left_out = os.environ["WITHOUT_CHANGE"]
            (change,) = (change for change in module.CHANGES if change.__name__ == left_out)
            module.CHANGES = tuple(other for other in module.CHANGES if other is not change)

        spec.loader.exec_module = exec_module
        return spec


if os.environ.get("WITHOUT_CHANGE"):
    sys.meta_path.insert(0, Finder())
