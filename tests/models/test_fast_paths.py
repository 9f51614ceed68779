"""Precision, compilation and activation checkpointing against the plain float32 step."""

import argparse
import copy
import subprocess
import sys

import pytest
import torch
from fairseq.optim import OPTIMIZER_REGISTRY
from fairseq.options import get_training_parser, parse_args_and_arch
from fairseq.utils import apply_to_sample
from omegaconf import OmegaConf

from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.data.pick_dataset import PickDataset, max_picks
from fairseq_electra.models.electra import ElectraModel, mixed_obstacle
from fairseq_electra.models.electra_config import ElectraConfig
from fairseq_electra.modules.compiling import (
    COMPILE_MODES,
    compile_obstacle,
    compile_step,
)
from fairseq_electra.optim.electra_adam import ElectraAdamConfig
from fairseq_electra.optim.electra_lamb import ElectraLambConfig
from tiny import TINY, make_dictionary

CPU = torch.device("cpu")


def make_sample(lengths=(16, 16, 16)) -> dict:
    dictionary = make_dictionary()
    generator = torch.Generator().manual_seed(5)
    tokens = []
    for length in lengths:
        words = torch.randint(4, len(dictionary) - 1, (length - 2,), generator=generator)
        tokens.append(torch.cat([torch.tensor([0]), words, torch.tensor([2])]))
    dataset = PickDataset(tokens, lengths, dictionary, 0.25, max_picks(0.25, max(lengths)))
    return dataset.collater([dataset[index] for index in range(len(tokens))])


class Task:
    target_dictionary = make_dictionary()


def train_step(model, sample):
    """Loss, logging output and gradients by name of one batch."""
    model.zero_grad()
    loss, _, log = ElectraCriterion(ElectraCriterionConfig(), Task())(model, sample)
    loss.backward()
    return loss.detach(), log, {name: p.grad for name, p in model.named_parameters()}


def fix_samples(sample, model):
    """The same replacements whatever the logits are rounded to."""
    with torch.no_grad():
        sample["net_input"]["sampled_tokens"] = model(**sample["net_input"]).sampled_tokens
    return sample


@pytest.mark.parametrize("lengths", [(16, 16, 16), (16, 9, 4)])
def test_bf16_is_near_float32_and_losses_and_weights_are_float32(build_model, lengths):
    plain, mixed = build_model(), build_model(precision="bf16")
    sample = fix_samples(make_sample(lengths), plain)
    assert mixed(**sample["net_input"]).gen_logits.dtype == torch.bfloat16
    loss, log, gradients = train_step(mixed, sample)
    expected, _, expected_gradients = train_step(plain, sample)
    assert loss.dtype == log["gen_loss"].dtype == log["disc_loss"].dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=5e-3)
    assert loss.item() != expected.item()
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32, name
        error = (gradient - expected_gradients[name]).norm() / expected_gradients[name].norm()
        assert error < 0.05, name


def test_bf16_samples_from_a_float32_softmax(build_model, monkeypatch):
    seen = []
    softmax = torch.nn.functional.softmax

    def spy(x, *args, **kwargs):
        seen.append(kwargs.get("dtype") or x.dtype)
        return softmax(x, *args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "softmax", spy)
    build_model(precision="bf16", attention="reference")(**make_sample()["net_input"])
    assert set(seen) == {torch.float32} and len(seen) == 5  # sampling, and 2 layers of 2 networks


def test_bf16_in_evaluation_and_in_fine_tuning(build_model):
    plain = build_model(pretrain=False).eval()
    mixed = build_model(pretrain=False, precision="bf16").eval()
    tokens = make_sample((16, 9))["net_input"]["src_tokens"]
    features, mixed_features = plain(tokens)[0], mixed(tokens)[0]
    assert torch.allclose(features, mixed_features.float(), atol=0.1)
    assert not torch.equal(features, mixed_features.float())


@pytest.mark.parametrize(
    ("options", "lengths", "optimizer"),
    [
        ({"dropout": 0.1, "attention_dropout": 0.1}, (16, 16, 16), "electra_adam"),
        ({"dropout": 0.1, "attention_dropout": 0.1}, (16, 9, 4), "electra_adam"),
        ({"attention": "reference"}, (16, 9, 4), "electra_adam"),
        ({"checkpoint_activations": True, "dropout": 0.1}, (16, 9, 4), "electra_adam"),
        ({"disallow_correct": True}, (16, 9, 4), "electra_lamb"),
    ],
    ids=str,
)
def test_an_update_reads_nothing_off_the_device(build_model, lengths, options, optimizer):
    """On device "meta", where there is nothing to read: whatever waited for a GPU fails here."""
    model = build_model(**options).to("meta")
    sample = apply_to_sample(lambda tensor: tensor.to("meta"), make_sample(lengths))
    cfg = {"electra_adam": ElectraAdamConfig, "electra_lamb": ElectraLambConfig}[optimizer]
    steps = OPTIMIZER_REGISTRY[optimizer](cfg(lr=[1e-3]), model.parameters())
    criterion = ElectraCriterion(ElectraCriterionConfig(), Task())
    for _ in range(2):
        loss, sample_size, log = criterion(model, sample)
        (loss / sample_size).backward()
        assert steps.clip_grad_norm(1.0).is_meta and log["disc_histogram"].is_meta
        steps.step()
        steps.zero_grad()
    with pytest.raises(RuntimeError):
        loss.item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_bf16_refuses_weights_that_are_not_float32(build_model, dtype):
    model = build_model(precision="bf16").to(dtype)
    with pytest.raises(ValueError, match="--precision bf16 keeps float32 weights"):
        model(**make_sample()["net_input"])


def test_what_is_slow_on_a_device_is_told(monkeypatch):
    cuda = torch.device("cuda")
    assert "--precision bf16 uses them" in mixed_obstacle(cuda, False, torch.float32)
    for mixed, dtype in ((True, torch.float32), (False, torch.float16), (False, torch.bfloat16)):
        assert mixed_obstacle(cuda, mixed, dtype) is None
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert "no instructions for bf16" in mixed_obstacle(CPU, True, torch.float32)
    assert mixed_obstacle(CPU, False, torch.float32) is None
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)
    assert mixed_obstacle(CPU, True, torch.float32) is None


def test_compile_in_fine_tuning_is_told(caplog, dictionary):
    """Its batches have too many shapes."""
    task = argparse.Namespace(source_dictionary=dictionary)
    ElectraModel.build_model(ElectraConfig(**TINY, compile="default"), task)
    assert "--compile is for pre-training alone" in caplog.text


@pytest.mark.parametrize("field", ["precision", "compile", "attention"])
def test_an_unknown_value_is_refused_with_the_known(capsys, field):
    argv = ["data", "--task", "electra", "--criterion", "electra", "--arch", "electra_tiny"]
    with pytest.raises(SystemExit):
        parse_args_and_arch(get_training_parser(), [*argv, f"--{field}", "fp8"])
    told = capsys.readouterr().err
    assert "invalid choice: 'fp8'" in told and "choose from" in told


@pytest.mark.parametrize(
    "lengths", [(16, 16, 16), pytest.param((16, 9, 4), marks=pytest.mark.campaign)]
)
def test_a_compiled_step_is_one_graph_and_computes_the_same(build_model, monkeypatch, lengths):
    """With aot_eager, which traces forward and backward as inductor does but needs no compiler."""
    original = torch.compile
    counter = []

    def compile_traced(step, mode, **options):
        assert mode == "default" and options["fullgraph"]
        counter.append(step)
        return original(step, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", compile_traced)
    plain, compiled = build_model(), build_model(compile="default")
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    sample = make_sample(lengths)
    expected, got = train_step(plain, sample), train_step(compiled, sample)
    assert len(counter) == 2  # the model's step and the criterion's
    torch.testing.assert_close(got[0], expected[0])
    assert got[1].keys() == expected[1].keys()
    torch.testing.assert_close(got[1]["disc_histogram"], expected[1]["disc_histogram"])
    torch.testing.assert_close(got[2], expected[2], rtol=1e-3, atol=1e-4)
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    copy.deepcopy(compiled.state_dict())


def test_torch_compiles_it_on_this_machine(build_model):
    if compile_obstacle("default", CPU):
        pytest.skip(compile_obstacle("default", CPU))
    sample = make_sample()
    plain = build_model(encoder_layers=1)
    compiled = build_model(encoder_layers=1, compile="default")
    torch.testing.assert_close(train_step(compiled, sample)[0], train_step(plain, sample)[0])


def test_cuda_graphs_without_cuda_are_refused_with_what_there_is():
    with pytest.raises(ValueError, match=r"reduce-overhead cannot be used here.*Available: none"):
        compile_step(len, "reduce-overhead", CPU)


def test_a_compiled_step_on_the_cpu_is_warned_of_once(caplog):
    """The model's and the criterion's are two."""
    compile_step(len, "none", CPU)
    assert not caplog.records
    if compile_obstacle("default", CPU) is None:
        compile_step(len, "default", CPU)
        compile_step(len, "default", CPU)
        assert caplog.text.count("slower than the plain step") == 1


@pytest.mark.campaign
def test_who_does_not_compile_does_not_import_the_compiler():
    """It takes seconds, longer than fairseq."""
    code = "import fairseq_cli.train, sys; was = 'torch._dynamo' in sys.modules; "
    code += "import fairseq_electra; print('imported:', 'torch._dynamo' in sys.modules and not was)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "imported: False" in done.stdout


def test_compilation_without_a_compiler_is_refused(monkeypatch):
    def none():
        raise RuntimeError("no working C++ compiler found")

    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", none)
    for mode in COMPILE_MODES[1:]:
        with pytest.raises(ValueError, match=r"Available: none$"):
            compile_step(len, mode, CPU)
    assert compile_step(len, "none", CPU) is len


@pytest.mark.parametrize("lengths", [(16, 16, 16), (16, 9, 4)])
def test_checkpointed_activations_change_no_number(build_model, lengths):
    """Also with dropout: the backward pass draws the same masks again."""
    results = []
    for checkpointed in (False, True):
        model = build_model(dropout=0.1, checkpoint_activations=checkpointed)
        torch.manual_seed(9)
        results.append(train_step(model, make_sample(lengths)))
    (loss, _, gradients), (again, _, gradients_again) = results
    assert torch.equal(loss, again)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, gradients_again[name]), name


def test_checkpointed_layers_run_twice(build_model):
    calls = []
    for checkpointed in (False, True):
        model = build_model(checkpoint_activations=checkpointed)
        count = []
        model.encoder.layers[0].fc1.register_forward_hook(lambda *_, count=count: count.append(1))
        train_step(model, make_sample())
        calls.append(len(count))
    assert calls == [1, 2]


@pytest.mark.parametrize("kind", ["namespace", "omegaconf"])
def test_a_checkpoint_from_before_an_option_gets_its_default(kind):
    old = {name: value for name, value in vars(ElectraConfig(**TINY)).items() if name != "_name"}
    for name in ("precision", "compile", "checkpoint_activations", "generator_layers"):
        del old[name]
    if kind == "omegaconf":
        cfg = OmegaConf.create({key: value for key, value in old.items() if key != "attention"})
        OmegaConf.set_struct(cfg, True)
    else:
        cfg = argparse.Namespace(**old)
    model = ElectraModel(cfg, make_dictionary(), pretrain=True)
    assert str(model.cfg.precision) == "float32" and str(model.cfg.compile) == "none"
    assert model.cfg.generator_layers is None
