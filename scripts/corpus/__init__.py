"""The quickstart's corpus and two labelled tasks, from the documentation of what is installed."""
