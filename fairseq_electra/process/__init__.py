"""What a process remembers from one call to the next: one object, in state.py."""
