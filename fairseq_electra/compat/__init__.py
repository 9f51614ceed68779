"""What the plugin changes in fairseq and numpy: all of it here, in two groups.

`apply()` is called once, when the package is imported. Each change says which version needs it and
what goes wrong without it; tests/compat/test_changes.py takes each away and sees a test fail. Each
room's __init__.py makes its changes, and its other files do the work.

    loading/       data files, loader workers     checkpoints/   written whole, read safely, resumed
    distributed/   several workers                updates/       numbers, options, logs
"""

import functools
import logging
import sys

import torch

LOG = (logging.root.level, list(logging.root.handlers))
try:
    import fairseq
except ImportError as error:
    raise ImportError(
        "fairseq_electra needs fairseq: run scripts/setup.sh, or "
        "`pip install --no-deps ve-fairseq==0.12.3` on Python 3.11 and 3.12"
    ) from error

# Its task text_to_speech sets the log to show every module's DEBUG lines, unless it is set already
# (as fairseq-train does before).
logging.root.level, logging.root.handlers[:] = LOG

from fairseq_electra.compat import checkpoints, distributed, loading, updates  # noqa: E402 (after fairseq)

REQUIRED = (  # fairseq fails without them, with today's torch and numpy or this plugin's models
    checkpoints.allow_checkpoint_classes,
    loading.restore_numpy_compat,
    checkpoints.begin_averages_with_loaded,
    distributed.broadcast_objects,
    updates.average_numbers_only,
)
MENDED = (  # it runs without them, but wrongly, or ends without saying why
    checkpoints.guard_checkpoints,
    checkpoints.write_checkpoints_whole,
    # each goes around those above it: first a save-dir is claimed, then a checkpoint is chosen
    checkpoints.explain_misfits,
    checkpoints.name_other_options,
    checkpoints.tell_schedule,
    checkpoints.keep_log_interval,
    checkpoints.keep_patience,
    checkpoints.end_complete_runs,
    checkpoints.check_checkpoints_first,
    checkpoints.claim_save_dir,
    loading.check_data_files,
    loading.name_dictionary_files,
    loading.stop_loading_ahead,
    loading.end_loader_workers,
    loading.load_epochs_anew,
    updates.shorten_logged_tensors,
    updates.explain_divergence,
    updates.check_options_first,
    updates.go_on_from_own_checkpoints,
    updates.read_device_once,
    updates.unscale_once,
    distributed.keep_place_with_other_workers,
    distributed.join_launched_processes,
    distributed.refuse_separate_copies,  # around check_options_first: it is asked first
    distributed.come_along_when_spawned,
    distributed.explain_lost_workers,
    distributed.meet_before_data,
    distributed.end_without_heartbeat,
    distributed.vary_dropout_over_workers,
    distributed.count_last_update_right,
)
CHANGES = (*REQUIRED, *MENDED)


@functools.cache
def apply() -> None:
    """Make every change above, once: calling it again changes nothing."""
    for change in CHANGES:
        change()


def describe_versions() -> str:
    """Python, torch and fairseq versions on one line, for logs and error messages."""
    return (
        f"Python {sys.version.split()[0]}, torch {torch.__version__}, fairseq {fairseq.__version__}"
    )
