"""A linear answer head is Hugging Face's ElectraForQuestionAnswering; the joint one is not."""

import pytest
import torch

pytest.importorskip("transformers", reason="needs the extra hf")

from omegaconf import OmegaConf
from safetensors.torch import load_file
from transformers import AutoTokenizer, ElectraForQuestionAnswering, ElectraModel

from fairseq_electra.answers.decode import HEAD
from fairseq_electra.conversion.__main__ import main
from fairseq_electra.conversion.checkpoint_file import write_checkpoint
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.tasks.electra_answers import ElectraAnswersTask, ElectraAnswersTaskConfig
from squad_bin import make_squad_bin
from tiny import TINY


@pytest.fixture
def export(tmp_path, capsys):
    """A function that exports a model with a head of that name: its batch, model and line."""
    bin_folder = make_squad_bin(tmp_path / "bin", train=5, valid=2, words=5)

    def run(head):
        task = ElectraAnswersTask.setup_task(
            ElectraAnswersTaskConfig(
                data=str(bin_folder), tokens_per_sample=32, max_query_length=6, answer_head=head
            )
        )
        torch.manual_seed(3)
        cfg = ElectraConfig(**TINY, _name="electra")
        model = task.build_model(OmegaConf.structured(cfg)).eval()
        for name, parameter in model.classification_heads[HEAD].named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter)
        write_checkpoint(tmp_path / "c.pt", cfg, model.state_dict(), bin_folder)
        state = torch.load(tmp_path / "c.pt", weights_only=True)
        state["cfg"]["task"]["_name"] = "electra_answers"
        torch.save(state, tmp_path / "c.pt")
        main(["export-hf", str(tmp_path / "c.pt"), str(tmp_path / "hf")])
        task.load_dataset("train")
        dataset = task.dataset("train")
        batch = dataset.collater([dataset[index] for index in range(len(dataset))])
        return model, dataset, batch["net_input"], capsys.readouterr().out

    return run


def test_the_linear_head_gives_the_same_logits(export, tmp_path):
    """Where an answer may be; the others ours masks. Ids and types are the tokenizer's there."""
    model, dataset, net_input, printed = export("linear")
    assert "answer_head: ElectraForQuestionAnswering\n" in printed
    folder = tmp_path / "hf" / HEAD
    theirs, info = ElectraForQuestionAnswering.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    tokenizer = AutoTokenizer.from_pretrained(folder)
    questions = [question.text for question in dataset.squad.questions]
    foreign = tokenizer(questions, dataset.squad.passages, padding=True, return_tensors="pt")
    assert torch.equal(foreign["token_type_ids"], net_input["token_types"])
    with torch.no_grad():
        ours, _ = model(**net_input, classification_head_name=HEAD)
        expected = theirs.eval()(**foreign)
    allowed = net_input["can_answer"]
    for mine, other in ((ours.start, expected.start_logits), (ours.end, expected.end_logits)):
        torch.testing.assert_close(mine[allowed], other[allowed], rtol=1e-5, atol=1e-5)
    saved = load_file(folder / "model.safetensors")
    assert torch.equal(saved["qa_outputs.weight"], model.classification_heads[HEAD].out_proj.weight)


def test_the_joint_head_stays_behind_and_the_encoder_is_written(export, tmp_path):
    model, dataset, net_input, printed = export("joint")
    assert "answer_head: ElectraModel, the encoder alone; the head is not written" in printed
    theirs, info = ElectraModel.from_pretrained(tmp_path / "hf" / HEAD, output_loading_info=True)
    assert not any(info.values()), info
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf" / HEAD)
    questions = [question.text for question in dataset.squad.questions]
    foreign = tokenizer(questions, dataset.squad.passages, padding=True, return_tensors="pt")
    with torch.no_grad():
        ours, _ = model(net_input["src_tokens"], token_types=net_input["token_types"])
        expected = theirs.eval()(**foreign).last_hidden_state
    is_token = foreign["attention_mask"].bool()
    torch.testing.assert_close(ours[is_token], expected[is_token], rtol=1e-5, atol=1e-5)
