"""Datasets between fairseq's data files and the model: picked positions, sentence pairs."""
