"""Checkpoints of other code to fairseq's and back: `python -m fairseq_electra.conversion --help`.

key_map.py      names of tensors: ours, Hugging Face's, TensorFlow's    vocabulary.py   row order
networks.py     converted tensors -> a whole model's, new parts drawn   tokenizer_files.py
hf_export.py, hf_import.py, hf_folder.py, bert.py, tf.py, roberta.py    each format
checkpoint_file.py, fairseq_folder.py    fairseq's own                  writing.py   whole files
"""
