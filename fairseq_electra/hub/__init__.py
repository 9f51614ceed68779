"""What a trained checkpoint says: labels of sentences, tags of words, answers to questions."""
