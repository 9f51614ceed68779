"""GLUE: files, metrics, a table over tasks and seeds (scripts/finetune_glue.sh)."""
