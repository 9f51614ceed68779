"""Text of people -> data-bins: pre-training text, sentences, tags, questions.

prepare_data.py       raw_text.py -> train_tokenizer.py -> tokenize_text.py -> data_bin.py
prepare_task.py       sentences and pairs
prepare_tagging.py    tagged words
prepare_squad.py      questions and passages
finetune_data.py      what a fine-tuning's options need to know of what these three made
"""
