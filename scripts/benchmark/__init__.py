"""How fast: ours, Hugging Face's and fairseq's RoBERTa in one run (scripts/benchmark.py)."""
