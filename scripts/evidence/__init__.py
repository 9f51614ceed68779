"""ELECTRA against RoBERTa at equal compute, from text to table and curve (scripts/reproduce.sh)."""
