"""Layer-wise decay: depths, exponents, groups; against the authors' run and torch's AdamW."""

import copy
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq.optim import FP16Optimizer
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fairseq_electra.optim.electra_adam import ElectraAdam, ElectraAdamConfig
from fairseq_electra.optim.electra_decay import rate_at
from fairseq_electra.optim.electra_lamb import ElectraLamb, ElectraLambConfig
from fairseq_electra.optim.layerwise import (
    LayerwiseConfig,
    depth_of,
    exponent_at,
    make_groups,
    mark_depths,
)

ORACLE = np.load(Path(__file__).parent / "oracle" / "layerwise.npz")
NAMES = ORACLE["names"].tolist()
LAYERS = 3


def make_adam(params, **options):
    options = {"adam_impl": "reference", "lr": [1e-3], "layerwise_lr_decay": 0.8, **options}
    return ElectraAdam(ElectraAdamConfig(**options), params)


def depth_by_name(name: str, layers: int) -> int:
    """Depth of one of the authors' variables (or of a key of their factors)."""
    layer = re.search(r"layer_(\d+)", name)
    if layer:
        return layers - int(layer[1])
    return layers + 1 if "embeddings" in name else 0


def oracle_params():
    params = [torch.nn.Parameter(torch.from_numpy(ORACLE[f"var/{n}"][0].copy())) for n in NAMES]
    for name, param in zip(NAMES, params, strict=True):
        param.param_group = depth_by_name(name, LAYERS)
    return params


@pytest.mark.parametrize(("layers", "decay"), [(3, 0.8), (12, 0.8), (24, 0.9)])
def test_off_by_one_gives_the_authors_factors(layers, decay):
    keys, factors = (ORACLE[f"layer_factor{part}_n{layers}_{decay}"] for part in ("_keys", ""))
    ours = [decay ** exponent_at(depth_by_name(key, layers), off_by_one=True) for key in keys]
    assert len(ours) == layers + 3
    np.testing.assert_allclose(ours, factors, rtol=1e-6)


def test_off_by_one_follows_the_authors_run():
    params = oracle_params()
    optimizer = make_adam(params, layerwise_lr_off_by_one=True)
    for update, rates in enumerate(ORACLE["lr_per_var"]):
        for name, param in zip(NAMES, params, strict=True):
            param.grad = torch.from_numpy(ORACLE[f"clipped/{name}"][update].copy())
        optimizer.set_lr(rate_at(update, peak=1e-3, warmup=10, total=50))
        of_param = {id(p): g["lr"] for g in optimizer.param_groups for p in g["params"]}
        np.testing.assert_allclose([of_param[id(p)] for p in params], rates, rtol=1e-6)
        optimizer.step()
        for name, param in zip(NAMES, params, strict=True):
            expected = ORACLE[f"var/{name}"][update + 1]
            np.testing.assert_allclose(param.detach(), expected, rtol=0, atol=2e-7)


def test_the_right_exponents_by_hand():
    """Head 1, top layer 0.8, then 0.64, 0.512, embeddings and their projection 0.4096."""
    optimizer = make_adam(oracle_params(), lr=[2.0])
    scales = [1, 1, 0.8, 0.8, 0.64, 0.64, 0.512, 0.512, 0.4096, 0.4096]
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([2 * s for s in scales])
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.01, 0.0] * 5
    optimizer.set_lr(1.0)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx(scales)
    assert optimizer.get_lr() == 1.0


def test_a_model_marks_embeddings_layers_and_heads(build_model):
    model = build_model(pretrain=False)
    model.register_classification_head("sentence", num_classes=2)
    depths = {
        "embeddings.": 3,
        "encoder.embeddings_project.": 3,
        "encoder.layers.0.": 2,
        "encoder.layers.1.": 1,
        "classification_heads.": 0,
    }
    for name, param in model.named_parameters():
        (expected,) = [depth for prefix, depth in depths.items() if name.startswith(prefix)]
        assert depth_of(param) == expected, name


def tiny_classifier(build_model):
    model = build_model(pretrain=False)
    model.register_classification_head("sentence", num_classes=2)
    return model


def adamw_groups_by_hand(model):
    """A group a parameter, from the names alone."""
    for name, param in model.named_parameters():
        layer = re.search(r"layers\.(\d)", name)
        exponent = 2 - int(layer[1]) if layer else 3 if "embeddings" in name else 0
        decayed = "bias" not in name and "layer_norm" not in name
        yield {
            "params": [param],
            "lr": 0.01 * 0.8**exponent,
            "weight_decay": 0.1 if decayed else 0.0,
        }


def test_agrees_with_torchs_adamw_over_groups_set_by_hand(build_model):
    ours, theirs = tiny_classifier(build_model), tiny_classifier(build_model)
    optimizer = make_adam(
        list(ours.parameters()), adam_bias_correction=True, weight_decay=0.1, lr=[0.01]
    )
    adamw = torch.optim.AdamW(adamw_groups_by_hand(theirs), eps=1e-6)
    before = copy.deepcopy(ours.state_dict())
    generator = torch.Generator().manual_seed(4)
    for _ in range(4):
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            own.grad = torch.randn(own.shape, generator=generator)
            other.grad = own.grad.clone()
        optimizer.step()
        adamw.step()
    for (name, own), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)
        assert not torch.equal(own, before[name]), name


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_depths_survive_fairseqs_float32_copies(build_model, half):
    """--fp16 --fp16-no-flatten-grads and --bf16."""
    model = tiny_classifier(build_model).to(half)
    common = {"bf16": half == torch.bfloat16, "fp16_no_flatten_grads": True}
    scaling = {"fp16_scale_window": 1, "fp16_init_scale": 1, "fp16_scale_tolerance": 0.0}
    limits = {"threshold_loss_scale": None, "min_loss_scale": 1e-4}
    cfg = OmegaConf.create(
        {
            "common": {**common, **scaling, **limits},
            "optimizer": {
                "_name": "electra_adam",
                "lr": [0.5],
                "layerwise_lr_decay": 0.5,
                "weight_decay": 0.0,
            },
        }
    )
    wrapper = FP16Optimizer.build_optimizer(cfg, list(model.parameters()))
    wrapper.set_lr(0.1)
    groups = wrapper.fp32_optimizer.param_groups
    assert [g["lr"] for g in groups] == pytest.approx(
        [0.1, 0.1, *(0.05, 0.05, 0.025, 0.025)] + [0.0125] * 2
    )
    assert {p.dtype for g in groups for p in g["params"]} == {torch.float32}
    assert wrapper.get_lr() == 0.1
    before = [copy_.detach().clone() for copy_ in wrapper.fp32_params]
    wrapper.backward(sum(param.float().sum() for param in model.parameters()))
    wrapper.step()
    # all gradients are 1: m = 0.1, v = 0.001, update = 0.1 / (0.0316228 + 1e-6) = 3.162178
    for param, copy_, old in zip(model.parameters(), wrapper.fp32_params, before, strict=True):
        expected = old - 0.1 * 0.5 ** depth_of(param) * 3.162178
        torch.testing.assert_close(copy_.detach(), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(param, copy_.to(half))


def test_apexs_lamb_and_adam_get_the_groups(fake_apex, cuda_params):
    cuda_params[0].param_group = 2
    options = {"lr": [1.0], "layerwise_lr_decay": 0.5}
    for optimizer in (
        ElectraLamb(ElectraLambConfig(**options), cuda_params),
        ElectraAdam(ElectraAdamConfig(**options), cuda_params),
    ):
        optimizer.set_lr(0.2)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.2, 0.05])
        assert [g["params"][0].ndim for g in optimizer.param_groups] == [1, 2]
        assert optimizer.get_lr() == 0.2


@given(
    depths=st.lists(st.integers(0, 4), min_size=1, max_size=9),
    dims=st.data(),
    off_by_one=st.booleans(),
)
def test_every_parameter_is_in_one_group_of_its_depth(depths, dims, off_by_one):
    params = []
    for depth in depths:
        param = torch.nn.Parameter(torch.zeros([2] * dims.draw(st.integers(0, 2))))
        if depth:
            param.param_group = depth
        params.append(param)
    cfg = LayerwiseConfig(layerwise_lr_decay=0.5, layerwise_lr_off_by_one=off_by_one)
    if not any(depths):
        with pytest.raises(ValueError, match="how deep its layers lie"):
            make_groups(params, 0.1, cfg)
        return
    groups = make_groups(params, 0.1, cfg)
    held = [id(p) for g in groups for p in g["params"]]
    assert sorted(held) == sorted(map(id, params))
    for group in groups:
        for param in group["params"]:
            depth = getattr(param, "param_group", 0)
            exponent = depth + (off_by_one and depth > 0)
            assert group["lr_scale"] == 0.5**exponent
            assert group["weight_decay"] == (0.1 if param.ndim == 2 else 0.0)


def test_without_decay_the_groups_are_those_of_old_checkpoints(build_model):
    groups = make_adam(list(tiny_classifier(build_model).parameters()), layerwise_lr_decay=1.0)
    assert [set(g) for g in groups.state_dict()["param_groups"]] == [
        {"lr", "betas", "eps", "weight_decay", "bias_correction", "params"}
    ] * 2


def test_a_state_with_other_groups_is_refused(build_model):
    params = list(tiny_classifier(build_model).parameters())
    with_decay, without = make_adam(params), make_adam(params, layerwise_lr_decay=1.0)
    with pytest.raises(ValueError, match=r"has 2 parameter groups, this run's has 8.*--reset-opt"):
        with_decay.load_state_dict(without.state_dict())
    with pytest.raises(ValueError, match="has 8 parameter groups, this run's has 2"):
        without.load_state_dict(with_decay.state_dict())


def test_resuming_keeps_this_runs_decay_and_shares(build_model):
    params = list(tiny_classifier(build_model).parameters())
    saved = make_adam(params, layerwise_lr_decay=0.9).state_dict()
    optimizer = make_adam(params, layerwise_lr_decay=0.5)
    optimizer.load_state_dict(saved, optimizer_overrides={"weight_decay": 0.3})
    optimizer.set_lr(1.0)
    assert [g["lr"] for g in optimizer.param_groups] == [1, 1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [0.3, 0.0] * 4


@pytest.mark.parametrize("decay", [0.0, -0.5, 1.5, float("nan")])
def test_a_decay_that_cannot_be_meant_is_named(decay):
    with pytest.raises(ValueError, match="--layerwise-lr-decay must be above 0 and at most 1"):
        make_adam([torch.nn.Parameter(torch.zeros(2))], layerwise_lr_decay=decay)


def test_names_that_other_models_give_to_groups_are_no_depths():
    param = torch.nn.Parameter(torch.zeros(2))
    param.param_group = "decoder"
    assert depth_of(param) == 0


def test_depths_are_marked_where_a_projection_is_absent():
    layer = torch.nn.Linear(2, 2)
    mark_depths([None, torch.nn.Embedding(3, 2)], [layer])
    assert [depth_of(p) for p in layer.parameters()] == [1, 1]
