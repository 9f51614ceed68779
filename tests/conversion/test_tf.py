"""The authors' checkpoints, written here by TensorFlow with random weights."""

import numpy as np
import pytest
import torch

pytest.importorskip("tensorflow", reason="needs the extra tf")

from fairseq_electra.conversion.__main__ import main
from fairseq_electra.conversion.key_map import (
    DISCRIMINATOR,
    GENERATOR,
    TF,
    list_entries,
    to_ours,
)
from fairseq_electra.conversion.vocabulary import foreign_rows
from fairseq_electra.models.electra import ElectraModel
from fairseq_electra.models.electra_config import choose_sharing
from foreign import VOCABULARY
from tf_checkpoint import make_variables, write


def load(folder):
    hub = ElectraModel.from_pretrained(str(folder), checkpoint_file="checkpoint.pt")
    return hub.models[0], hub.task.source_dictionary


@pytest.mark.parametrize("options", [{}, {"embedding_sharing": "none"}])
def test_both_networks(tmp_path, capsys, options):
    variables = make_variables(DISCRIMINATOR, GENERATOR, **options)
    extra = {
        "global_step": np.int64(5),
        "electra/embeddings/LayerNorm/beta/adam_m": np.ones(32, np.float32),
        "electra/embeddings/LayerNorm/beta/adam_v": np.ones(32, np.float32),
    }
    main([*write(tmp_path, {**variables, **extra}), str(tmp_path / "ours")])
    printed = capsys.readouterr().out
    assert "not taken: global_step\nnot taken: 2 moments of the optimizer\n" in printed
    model, dictionary = load(tmp_path / "ours")
    assert choose_sharing(model.cfg) == options.get("embedding_sharing", "all")
    rows = foreign_rows(VOCABULARY, dictionary)
    state = model.state_dict()
    count = 0
    for network in (DISCRIMINATOR, GENERATOR):
        entries = [
            entry for entry in list_entries(network, 2, bool(options)) if entry.ours in state
        ]
        foreign = {name: torch.from_numpy(value) for name, value in variables.items()}
        for name, tensor in to_ours(entries, foreign, TF).items():
            by_word = "embed_tokens" in name or name == "generator.head.bias"
            assert torch.equal(state[name], tensor[rows] if by_word else tensor), name
            count += 1
    assert count >= len(state) - 1


@pytest.mark.parametrize("network", [DISCRIMINATOR, GENERATOR])
def test_one_network(tmp_path, capsys, network):
    command = write(tmp_path, make_variables(network))
    if network == GENERATOR:
        with pytest.raises(SystemExit, match="does not say how large its discriminator is"):
            main([*command, str(tmp_path / "ours")])
        command += ["--arch", "electra_tiny"]
    main([*command, str(tmp_path / "ours")])
    printed = capsys.readouterr().out
    new = "generator" if network == DISCRIMINATOR else "encoder"
    assert f"new, from random weights: {new}\n" in printed
    load(tmp_path / "ours")


def test_a_fine_tuned_discriminator(tmp_path, capsys):
    """Its pre-training head is gone: the encoder is taken, the task's head is named."""
    variables = {
        name: value
        for name, value in make_variables(DISCRIMINATOR).items()
        if not name.startswith("discriminator_predictions/")
    }
    variables["task_specific/cola/classifier/kernel"] = np.ones((128, 2), np.float32)
    main([*write(tmp_path, variables), str(tmp_path / "ours")])
    printed = capsys.readouterr().out
    assert "not taken: task_specific/cola/classifier/kernel\n" in printed
    assert "new, from random weights: discriminator_head\n" in printed
    load(tmp_path / "ours")


def refuse(command, out, message):
    with pytest.raises(SystemExit, match=message):
        main([*command, str(out)])
    assert not out.exists()


def test_bad_input(tmp_path):
    variables = make_variables(DISCRIMINATOR, GENERATOR)
    out = tmp_path / "out"
    gone = "electra/encoder/layer_1/attention/self/key/bias"
    fewer = {name: value for name, value in variables.items() if name != gone}
    refuse(
        write(tmp_path, {**fewer, "more": np.ones(1)}),
        out,
        rf"missing tensors {gone}; unknown tensors more$",
    )
    misshapen = {**variables, gone: np.ones(3, np.float32)}
    refuse(write(tmp_path, misshapen), out, rf"misshapen tensors: {gone} is 3, not 128$")
    refuse(write(tmp_path, {"bert/embeddings/word_embeddings": np.ones(1)}), out, "not ELECTRA's")
    command = write(tmp_path, variables)
    data = tmp_path / "model.ckpt.data-00000-of-00001"
    content = data.read_bytes()
    data.write_bytes(content[: len(content) // 2])
    refuse(command, out, r"model\.ckpt is damaged")
    data.write_bytes(content)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY[:-1]) + "\n", encoding="utf-8")
    refuse(command, out, rf"has {len(VOCABULARY) - 1} entries, .* has {len(VOCABULARY)} rows")
    refuse([*command[:3], str(tmp_path / "none.txt")], out, r"none\.txt: cannot be read")
    command[1] += ".index"
    refuse(command, out, r"no model\.ckpt\.index\.index there; name it without its ending")
