"""`--embedding-sharing`: what each value shares, whom a loss moves, which checkpoints fit."""

import re

import pytest
import torch
from fairseq.dataclass.configs import EMAConfig
from fairseq.models.ema.ema import EMA

from fairseq_electra.compat.checkpoints.run_options import read_options
from fairseq_electra.models.electra_config import ElectraConfig, check_config, choose_sharing
from fairseq_electra.models.electra_transformer import ElectraTransformer, ElectraTransformerConfig
from fairseq_electra.modules.shared_embeddings import TABLES, add_deltas
from fairseq_electra.optim.layerwise import LayerwiseConfig, depth_of, make_groups
from fairseq_electra.runs.measure_runs import count_flops_per_token
from fairseq_electra.runs.read_logs import read_log
from tiny import TINY, make_batch, make_dictionary

WORDS = "embeddings.embed_tokens.weight"
TOKEN_TYPES = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0]])


def make_gdes(build_model, **options):
    """A model whose differences are none of them 0."""
    model = build_model(embedding_sharing="gdes", **options)
    for name in TABLES:
        torch.nn.init.normal_(getattr(model.embeddings, name).delta, std=0.1)
    return model


def whole_tables(model):
    tensors = dict(model.state_dict())
    add_deltas(tensors)
    return tensors


@pytest.mark.parametrize("num_updates", [0, 1])
@pytest.mark.parametrize("options", [{}, {"weight_init": "local", "generator_size": 1.0}])
def test_gdes_begins_with_the_numbers_of_all(build_model, num_updates, options):
    options = {"mlm_updates": 1, "dropout": 0.1, **options}
    outputs, states, draws = [], [], []
    for sharing in ("all", "gdes"):
        model = build_model(embedding_sharing=sharing, **options)
        draws.append(torch.rand(3))  # what comes after the model is drawn as it was
        model.set_num_updates(num_updates)
        outputs.append(model(**{**make_batch(), "token_types": TOKEN_TYPES}))
        states.append(whole_tables(model))
    assert torch.equal(*draws)
    for name, tensor in outputs[0]._asdict().items():
        other = getattr(outputs[1], name)
        assert tensor is other or torch.equal(tensor, other), name
    tables = [name for name in states[0] if name.startswith("embeddings.")]
    assert states[1].keys() - states[0].keys() == {f"generator.{name}" for name in tables}
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name
    assert all(states[1][name].equal(states[1][f"generator.{name}"]) for name in tables)


def moved(model):
    return {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}


@pytest.mark.parametrize(("num_updates", "logits"), [(0, "mlm_logits"), (1, "disc_logits")])
def test_each_loss_moves_its_own_network(build_model, num_updates, logits):
    model = make_gdes(build_model, mlm_updates=1)
    torch.nn.init.normal_(model.discriminator_head.out_proj.weight)  # of zeros with --mlm-updates
    model.set_num_updates(num_updates)
    getattr(model(**{**make_batch(), "token_types": TOKEN_TYPES}), logits).square().sum().backward()
    mine = {name for name, _ in model.named_parameters() if name.startswith("embeddings.")}
    assert len(mine) == 5
    assert mine <= moved(model)
    assert not any(name.startswith("generator.") for name in moved(model))
    model.zero_grad()
    model(**{**make_batch(), "token_types": TOKEN_TYPES}).gen_logits.square().sum().backward()
    assert {f"generator.embeddings.{name}.weight" for name in TABLES} <= moved(model)
    assert all(name.startswith("generator.") for name in moved(model))


def test_two_towers_own_the_tables_too(build_model):
    model = make_gdes(build_model, two_tower_generator=True)
    model(**{**make_batch(), "token_types": TOKEN_TYPES}).disc_logits.square().sum().backward()
    assert not any(name.startswith("generator.") for name in moved(model))
    model.zero_grad()
    model(**{**make_batch(), "token_types": TOKEN_TYPES}).gen_logits.square().sum().backward()
    assert "generator.embeddings.embed_tokens.weight" in moved(model)
    assert all(name.startswith("generator.") for name in moved(model))


@pytest.mark.parametrize("num_updates", [0, 1])
def test_every_parameter_has_a_gradient(build_model, num_updates):
    """DistributedDataParallel waits for each."""
    model = build_model(embedding_sharing="gdes", mlm_updates=1)
    model.set_num_updates(num_updates)
    output = model(**{**make_batch(), "token_types": None})
    logits = (output.gen_logits, output.disc_logits, output.mlm_logits)
    sum(each.sum() for each in logits if each is not None).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_the_generator_moves_the_discriminator_along(build_model):
    model = make_gdes(build_model).eval()
    tokens = {**make_batch(), "token_types": TOKEN_TYPES}["src_tokens"]
    before = model.embeddings(tokens)
    with torch.no_grad():
        model.generator.embeddings.embed_tokens.weight += torch.randn(45, 16)
    assert not torch.allclose(model.embeddings(tokens), before)


def test_depths_and_weight_decay(build_model):
    model = make_gdes(build_model)
    groups = make_groups(model.parameters(), 0.01, LayerwiseConfig(layerwise_lr_decay=0.5))
    found = {id(p): (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert found[id(model.embeddings.embed_tokens.delta)] == (0.5**3, 0.01)
    assert found[id(model.embeddings.layer_norm.weight)] == (0.5**3, 0.0)
    for parameter in model.generator.parameters():
        assert depth_of(parameter) == 0
        assert found[id(parameter)] == (1.0, 0.01 if parameter.dim() > 1 else 0.0)


def test_parameters_are_counted_once(build_model):
    counts = {
        sharing: sum(p.numel() for p in build_model(embedding_sharing=sharing).parameters())
        for sharing in ("all", "gdes")
    }
    assert counts["gdes"] - counts["all"] == (45 + 32 + 2 + 2) * 16  # tables, LayerNorm


@pytest.mark.parametrize("ema_fp32", [False, True])
def test_averaged_weights_are_averaged_tables(build_model, ema_fp32):
    model = make_gdes(build_model)
    ema = EMA(model, EMAConfig(store_ema=True, ema_decay=0.75, ema_fp32=ema_fp32))
    before = whole_tables(model)[WORDS]
    with torch.no_grad():
        model.generator.embeddings.embed_tokens.weight += 1
        model.embeddings.embed_tokens.delta += 0.5
    ema.step(model)
    torch.testing.assert_close(ema.get_model().embeddings.embed_tokens.weight, before + 0.375)
    if ema_fp32:  # fairseq averages these aside, and copies them as well
        torch.testing.assert_close(whole_tables(ema.get_model())[WORDS], before + 0.375)
    torch.testing.assert_close(model.embeddings.embed_tokens.weight, before + 1.5)


def test_fine_tuning_takes_the_sum(build_model):
    pretrained = make_gdes(build_model).eval()
    tokens = {**make_batch(), "token_types": TOKEN_TYPES}["src_tokens"]
    tuned = build_model(pretrain=False, seed=2, embedding_sharing="gdes").eval()
    assert "embeddings.embed_tokens.weight" in tuned.state_dict()
    tuned.load_state_dict(pretrained.state_dict())
    assert torch.equal(tuned(tokens)[0], pretrained(tokens)[0])


def test_an_encoder_decoder_takes_the_sum(build_model):
    pretrained = make_gdes(build_model)
    sizes = {name: TINY[name] for name in TINY if name != "generator_size"}
    cfg = ElectraTransformerConfig(**sizes)
    model = ElectraTransformer(cfg, make_dictionary())
    model.load_state_dict(pretrained.state_dict())
    assert model.encoder.embeddings.embed_tokens.weight.equal(whole_tables(pretrained)[WORDS])


@pytest.mark.parametrize("sharing", ["all", "none"])
def test_gdes_goes_on_from_other_sharings(build_model, sharing):
    """In TINY the tables are as wide as the generator, so that each value can be had of each."""
    model = build_model(embedding_sharing=sharing, seed=2).eval()
    other = build_model(embedding_sharing="gdes").eval()
    other.load_state_dict(model.state_dict())
    batch = {**make_batch(), "token_types": TOKEN_TYPES}
    for name, tensor in model(**batch)._asdict().items():
        if tensor is not None:
            torch.testing.assert_close(getattr(other(**batch), name), tensor)
    back = build_model(embedding_sharing="none").eval()
    back.load_state_dict(other.state_dict())
    assert torch.equal(back(**batch).disc_logits, other(**batch).disc_logits)


@pytest.mark.parametrize(
    ("saved", "given", "message"),
    [
        ("gdes", {"embedding_sharing": "all"}, "with --embedding-sharing gdes: give that"),
        ("none", {"embedding_sharing": "all"}, "with --embedding-sharing none: give none or gdes"),
        ("all", {"embedding_sharing": "none"}, "with --embedding-sharing all: give all or gdes"),
        (
            "none",
            {"embedding_sharing": "gdes", "generator_size": 1.0},
            "gdes needs tables of the same width.* is 32 wide, the discriminator's 16",
        ),
    ],
)
def test_tables_that_do_not_fit_are_refused(build_model, saved, given, message):
    size = {"generator_size": given.get("generator_size", 0.5)}
    state = build_model(embedding_sharing=saved, **size).state_dict()
    with pytest.raises(ValueError, match=message):
        build_model(**given).load_state_dict(state)


def test_another_dictionary_is_told_by_its_size(build_model):
    state = make_gdes(build_model).state_dict()
    with pytest.raises(ValueError, match=r"45 entries.*50"):
        build_model(make_dictionary(45), embedding_sharing="gdes").load_state_dict(state)


# --- options ---


def test_the_former_name_means_none(build_model):
    assert choose_sharing(ElectraConfig()) == "all"
    assert choose_sharing(ElectraConfig(untie_embeddings=True)) == "none"
    assert choose_sharing(ElectraConfig(untie_embeddings=True, embedding_sharing="none")) == "none"
    named = build_model(embedding_sharing="none").state_dict()
    old = ElectraConfig(**TINY, untie_embeddings=True)
    del old.embedding_sharing  # of a checkpoint from before the option
    model = type(build_model())(old, make_dictionary(), pretrain=True)
    model.load_state_dict(named)


@pytest.mark.parametrize("sharing", ["all", "gdes"])
def test_a_contradiction_names_both_options(sharing):
    cfg = ElectraConfig(embedding_sharing=sharing, untie_embeddings=True)
    with pytest.raises(ValueError, match=f"--embedding-sharing {sharing} and --untie-embeddings"):
        check_config(cfg)


def test_an_unknown_value_is_named():
    with pytest.raises(ValueError, match="--embedding-sharing must be one of all, gdes, none, not"):
        check_config(ElectraConfig(embedding_sharing="some"))


def test_a_resumed_run_knows_the_former_name():
    """What is compared with a checkpoint's options, whichever name both have."""

    def options(**model):
        return read_options({"model": {"_name": "electra", **model}})

    former, plain = options(untie_embeddings=True), options(untie_embeddings=False)
    assert former == options(untie_embeddings=False, embedding_sharing="none")
    assert plain == options(untie_embeddings=False, embedding_sharing=None)
    assert plain == options(untie_embeddings=False, embedding_sharing="all")
    assert former["--embedding-sharing"] == "none" and "--untie-embeddings" not in former


# --- runs ---


def test_a_run_with_gdes_resumes_to_the_same_bits(data_bin, tmp_path, train_electra):
    options = ("--embedding-sharing", "gdes", "--mlm-updates", 2, "--max-update", 4)
    options += ("--store-ema", "--ema-decay", 0.9, "--precision", "bf16", "--disable-validation")
    whole = train_electra(data_bin, tmp_path / "whole", *options, "--save-interval-updates", 3)
    (tmp_path / "parts").mkdir()
    (tmp_path / "whole/checkpoint_1_3.pt").rename(tmp_path / "parts/checkpoint_last.pt")
    rest = train_electra(data_bin, tmp_path / "parts", *options)
    losses = [re.findall(r'"loss": "([\d.]+)"', each.output) for each in (whole, rest)]
    assert losses[1] == losses[0][3:]
    states = [
        torch.load(tmp_path / name / "checkpoint_last.pt", weights_only=False)
        for name in ("whole", "parts")
    ]
    assert states[0]["model"]["embeddings.embed_tokens.delta"].any()
    moments = [
        {(key, name): torch.as_tensor(value) for key, values in each.items()
         for name, value in values.items()}
        for each in (state["last_optimizer_state"]["state"] for state in states)
    ]  # fmt: skip
    averages = [state["extra_state"]["ema"] for state in states]
    for one, other in ([state["model"] for state in states], averages, moments):
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    # the log says what was trained
    (tmp_path / "train.log").write_text(whole.output)
    log = read_log(tmp_path / "train.log")
    assert log.tables["embed_tokens"] == (45, 16)
    assert log.parameters == sum(
        tensor.numel() for tensor in states[0]["model"].values() if tensor.is_floating_point()
    )


def test_both_names_of_none_train_the_same(data_bin, tmp_path, train_electra):
    options = ("--max-update", 2, "--no-save", "--disable-validation", "--embedding-size", 32)
    found = []
    for given in (("--embedding-sharing", "none"), ("--untie-embeddings",)):
        output = train_electra(data_bin, tmp_path, *options, *given).output
        (tmp_path / "train.log").write_text(output)
        flops, _ = count_flops_per_token(read_log(tmp_path / "train.log"), "electra")
        found.append((re.findall(r'"loss": "([\d.]+)"', output), flops))
        is_warned = "--untie-embeddings is called --embedding-sharing none now" in output
        assert is_warned == ("--untie-embeddings" in given)
    none, former = found
    assert none == former and len(none[0]) == 2
    shared = output.replace("'untie_embeddings': True", "'untie_embeddings': False")
    assert shared != output
    (tmp_path / "train.log").write_text(shared)
    assert none[1] != count_flops_per_token(read_log(tmp_path / "train.log"), "electra")[0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--embedding-sharing gdes --untie-embeddings", "contradict each other"),
        ("--embedding-sharing some", "invalid choice: 'some'"),
    ],
)
def test_a_run_with_wrong_options_is_refused(data_bin, tmp_path, train_electra, options, named):
    done = train_electra(data_bin, tmp_path, *options.split(), check=False)
    last = done.output.splitlines()[-1]
    assert done.returncode != 0 and "--embedding-sharing" in last and named in last
