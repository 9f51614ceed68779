"""Checkpoint files: written whole, loaded safely, and whether one fits a model.

files.py   whole or not there; damage is named     safe_loading.py   nothing in a file is run
fitting.py which tensors a model takes from one
"""
