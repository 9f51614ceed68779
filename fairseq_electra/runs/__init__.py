"""What runs logged -> tables and plots; what they cost; a batch as people read it.

compare.py             compare_runs.py: read_logs.py -> measure_runs.py -> plotting.py, plot_runs.py
flops.py               count_flops.py; print_recipe.py: the command of a size
show.py                show_replacements.py -> replacement_words.py -> render_replacements.py
features.py            measure_features.py
watch_run.py           show_progress.py    user_dir.py
"""
