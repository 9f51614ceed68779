"""What comes after the answer head: answers in the words of the passage, and SQuAD's metrics."""
