"""Each change of compat/ is needed: without it the test that is named here fails."""

import os
import subprocess
import sys

import pytest

from fairseq_electra import compat
from tiny import ROOT

CHECKPOINTS, RESUMING, LOADING, DISTRIBUTED, UPDATES = (
    f"compat/test_{name}.py"
    for name in ("checkpoints", "resuming", "loading", "distributed", "updates")
)
FAILS_WITHOUT = {
    "allow_checkpoint_classes": f"{CHECKPOINTS}::test_a_checkpoint_with_a_namespace_loads",
    "restore_numpy_compat": f"{LOADING}::test_break_mode_eos_works",
    "begin_averages_with_loaded": (
        f"{CHECKPOINTS}::test_averages_begin_as_the_weights_of_a_checkpoint_without[False]"
    ),
    "broadcast_objects": f"{DISTRIBUTED}::test_a_configuration_reaches_the_other_worker",
    "average_numbers_only": f"{UPDATES}::test_averaged_weights_keep_the_fingerprint",
    "guard_checkpoints": (
        "checkpoints/test_safe_loading.py::test_a_model_archive_cannot_write_elsewhere"
    ),
    "write_checkpoints_whole": f"{CHECKPOINTS}::test_a_failed_copy_keeps_the_former_checkpoint",
    "explain_misfits": f"{RESUMING}::test_a_model_that_does_not_fit_is_named",
    "name_other_options": f"{RESUMING}::test_an_option_that_moves_no_batch_keeps_the_place",
    "tell_schedule": f"{RESUMING}::test_a_schedule_that_looks_at_validations_goes_on",
    "keep_log_interval": f"{RESUMING}::test_an_interval_of_the_log_goes_on_over_a_stop",
    "keep_patience": f"{RESUMING}::test_patience_is_counted_over_several_starts",
    "end_complete_runs": (
        "reliability/test_resume.py::test_a_complete_run_that_is_started_again_changes_nothing"
    ),
    "check_checkpoints_first": (
        "checkpoints/test_files.py::test_without_a_last_one_the_newest_is_used"
    ),
    "claim_save_dir": (
        "reliability/test_two_trainings.py::test_the_second_is_refused_and_names_the_first[1]"
    ),
    "check_data_files": f"{LOADING}::test_a_damaged_split_is_named",
    "name_dictionary_files": f"{LOADING}::test_a_damaged_dictionary_is_named",
    "stop_loading_ahead": f"{LOADING}::test_a_loop_that_is_left_early_ends_its_thread",
    "end_loader_workers": f"{LOADING}::test_loader_workers_end_when_all_is_loaded",
    "load_epochs_anew": f"{LOADING}::test_a_loaders_process_learns_of_the_epoch",
    "shorten_logged_tensors": f"{UPDATES}::test_long_tensors_are_printed_as_their_shape",
    "explain_divergence": "compat/test_divergence.py::test_a_diverging_rate_stops_the_run",
    "check_options_first": f"{UPDATES}::test_half_precision_on_the_cpu_is_refused[fp16]",
    "go_on_from_own_checkpoints": (
        "checkpoints/test_safe_loading.py::test_a_run_goes_on_from_its_own_whatever_it_trains"
    ),
    "read_device_once": f"{UPDATES}::test_an_update_reads_one_number_off_the_device",
    "unscale_once": "optim/test_float16.py::test_amp_divides_by_the_scale_once[electra_adam]",
    "keep_place_with_other_workers": (
        f"{DISTRIBUTED}::test_another_number_of_workers_goes_on_at_the_same_sentence"
    ),
    "join_launched_processes": f"{DISTRIBUTED}::test_a_process_of_torchrun_needs_no_gpu",
    "refuse_separate_copies": "reliability/test_workers.py::test_a_trainer_of_a_copy_is_refused",
    "come_along_when_spawned": (
        "reliability/test_spawned.py"
        "::test_a_spawned_worker_has_the_plugin_before_it_meets_the_others"
    ),
    "explain_lost_workers": (
        "reliability/test_workers.py::test_a_lost_worker_is_explained_and_nothing_is_saved"
    ),
    "meet_before_data": (
        "reliability/test_workers.py::test_a_worker_that_fails_before_it_trains_ends_the_other"
    ),
    "end_without_heartbeat": f"{DISTRIBUTED}::test_a_heartbeat_ends_a_worker_at_once",
    "vary_dropout_over_workers": "reliability/test_workers.py::test_workers_drop_other_units",
    "count_last_update_right": (
        "reliability/test_workers.py::test_losses_are_those_of_one_process[6-3]"
    ),
}


def test_every_change_has_one():
    assert list(FAILS_WITHOUT) == [change.__name__ for change in compat.CHANGES]


def run_without(change: str, test: str) -> str:
    """What pytest printed at the end of `test`, in processes that lack `change`."""
    kept = {name: value for name, value in os.environ.items() if name != "TEST_PYTHON"}
    environment = {
        **kept,  # not the server of Python that has every change
        "WITHOUT_CHANGE": change,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'without_change'}",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-n", "0", "-p", "no:cacheprovider"]
    command += ["-m", "campaign or not campaign"]
    done = subprocess.run(
        [*command, "--tb=line", f"tests/{test}"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout[-3000:]


@pytest.mark.campaign
@pytest.mark.parametrize("change", FAILS_WITHOUT)
def test_it_fails_without(change):
    output = run_without(change, FAILS_WITHOUT[change])
    assert "1 failed" in output.splitlines()[-1], output
    assert "error" not in output.splitlines()[-1], output


@pytest.mark.campaign
def test_the_harness_takes_only_what_is_named():
    """With another change left out the first of the tests above passes."""
    output = run_without("shorten_logged_tensors", FAILS_WITHOUT["allow_checkpoint_classes"])
    assert "1 passed" in output.splitlines()[-1], output
