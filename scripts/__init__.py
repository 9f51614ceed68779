"""What a person types, and the parts of what is measured."""
