"""Two stages and frozen generators: what is computed, what begins as what, what is refused."""

import math
import shutil

import pytest
import torch
from fairseq import checkpoint_utils
from fairseq.dataclass.configs import EMAConfig
from fairseq.models.ema.ema import EMA
from omegaconf import OmegaConf
from torch._dynamo.testing import CompileCounter

from fairseq_electra.checkpoints.fitting import fingerprint
from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from fairseq_electra.models.electra_config import ElectraConfig, check_config
from fairseq_electra.models.electra_mlm import ElectraMaskedLM
from fairseq_electra.models.generator_from import begin_with, take_generator
from fairseq_electra.modules.corruption import lower_temperature, sample_tokens
from tiny import TINY, make_batch, make_dictionary

SAME_SIZE = {
    "generator_size": 1.0,
    "generator_ffn_embed_dim": TINY["encoder_ffn_embed_dim"],
    "generator_attention_heads": TINY["encoder_attention_heads"],
}
OWN = "checkpoint_1_5000.pt"
BY_ARCH = {"generator_size": ElectraConfig.generator_size}  # as if it was not given


def compute_loss(model, **weights):
    """Loss and logging output of the batch by the criterion."""
    task = type("Task", (), {"target_dictionary": make_dictionary()})()
    criterion = ElectraCriterion(ElectraCriterionConfig(**weights), task)
    sample = {"net_input": make_batch(), "ntokens": 10, "npicked": 3, "nsentences": 2}
    loss, sample_size, log = criterion(model, sample)
    return loss / sample_size, log


def save(model, path, name="electra"):
    """A file with what is read of a checkpoint."""
    state = {"model": model.state_dict(), "cfg": {"model": {**vars(model.cfg), "_name": name}}}
    torch.save(state, path)
    return path


@pytest.fixture
def begin(build_model):
    """A function that builds a tiny model as `--task electra` does for a run that begins."""

    def build(path, **options):
        cfg = ElectraConfig(**{**TINY, **BY_ARCH, "generator_from": str(path), **options})
        given = take_generator(cfg)
        model = build_model(**{**vars(cfg), "seed": 7})
        begin_with(model, given, cfg)
        return model

    return build


# --- the first stage


def test_without_a_weight_the_discriminator_is_not_computed(build_model):
    model = build_model()
    calls = []
    model.encoder.register_forward_hook(lambda *call: calls.append(call))
    loss, log = compute_loss(model, disc_weight=0.0)
    loss.backward()
    assert not calls
    assert log["disc_loss"].item() == pytest.approx(10 * math.log(2))
    output = model(**make_batch())
    losses = -output.gen_logits.log_softmax(-1).gather(2, output.gen_targets.unsqueeze(2))
    expected = (losses.squeeze(2) * make_batch()["picked_weights"]).sum() / 3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    gradients = {name: param.grad.clone() for name, param in model.named_parameters()}
    model.zero_grad()
    expected.backward()
    for name, param in model.named_parameters():
        other = torch.zeros_like(param) if param.grad is None else param.grad
        torch.testing.assert_close(gradients[name], other, msg=name)  # none is None: DDP waits


# --- frozen


def test_a_frozen_generator_stays_the_same_function(build_model):
    """Its samples have no dropout, and its tables do not move with the discriminator's."""
    model = build_model(freeze_generator=True, dropout=0.5, attention_dropout=0.5).train()
    before = model(**make_batch()).gen_logits
    tables = model.embeddings.embed_tokens.weight.clone()
    trained = [param for param in model.parameters() if param.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        loss, _ = compute_loss(model)
        loss.backward()
        optimizer.step()
    assert torch.equal(model(**make_batch()).gen_logits, before)
    assert not torch.equal(model.embeddings.embed_tokens.weight, tables)
    assert not before.requires_grad
    assert all(param.grad is None for param in model.generator.parameters())
    assert all(param.grad is not None for param in trained)


def test_a_frozen_generators_loss_is_reported_and_not_summed(build_model):
    loss, log = compute_loss(build_model(freeze_generator=True), disc_weight=7.0)
    assert log["gen_loss"].item() > 3
    assert loss.item() == pytest.approx(7.0 * log["disc_loss"].item() / 10, rel=1e-6)
    assert log["uninformed"] == pytest.approx(10 * 7.0 * math.log(2))


# --- --generator-from


@pytest.mark.parametrize("sharing", ["all", "gdes", "none"])
def test_a_frozen_generator_is_the_checkpoints_whatever_its_size(
    build_model, begin, tmp_path, sharing
):
    source = build_model(
        generator_size=0.75, generator_layers=1, embedding_size=24, embedding_sharing=sharing
    )
    model = begin(save(source, tmp_path / "old.pt"), freeze_generator=True)
    assert torch.equal(model(**make_batch()).gen_logits, source(**make_batch()).gen_logits)
    assert model.cfg.generator_from is None  # nothing that reads a checkpoint looks for the file
    again = build_model(**vars(model.cfg))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(**make_batch()).gen_logits, source(**make_batch()).gen_logits)


def test_a_masked_language_model_is_a_generator(begin, tmp_path):
    torch.manual_seed(1)
    source = ElectraMaskedLM(ElectraConfig(**TINY), make_dictionary())
    path = save(source, tmp_path / "mlm.pt", "electra_mlm")
    model = begin(path, freeze_generator=True, init_discriminator_from="generator")
    output = model(**make_batch())
    logits, _ = source(output.masked_tokens)
    torch.testing.assert_close(output.gen_logits[0], logits[0, [1, 4]])
    torch.testing.assert_close(output.disc_features, source.encode(output.corrupted_tokens)[0])


@pytest.mark.parametrize("frozen", [False, True])
def test_the_discriminator_begins_as_the_generator(build_model, begin, tmp_path, frozen):
    source = build_model(**SAME_SIZE)
    path = save(source, tmp_path / "first.pt")
    model = begin(path, freeze_generator=frozen, init_discriminator_from="generator")
    generator = source.generator.encoder.state_dict()
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, generator[name]), name
    tables = source.embeddings.state_dict()
    for name, tensor in model.embeddings.state_dict().items():
        assert torch.equal(tensor, tables[name]), name
    assert torch.equal(model(**make_batch()).gen_logits, source(**make_batch()).gen_logits)
    assert (model.generator.embeddings is not None) == frozen
    head = model.discriminator_head.dense.weight
    assert not torch.equal(head, source.discriminator_head.dense.weight)


@pytest.mark.parametrize("start", ["random", "generator"])
def test_gdes_begins_with_the_numbers_of_all(build_model, begin, tmp_path, start):
    source = build_model(embedding_sharing="gdes", **SAME_SIZE)
    for parameter in (*source.embeddings.parameters(), *source.generator.embeddings.parameters()):
        torch.nn.init.normal_(parameter)
    path = save(source, tmp_path / "first.pt")
    shared, gdes = (
        begin(path, embedding_sharing=sharing, init_discriminator_from=start)
        for sharing in ("all", "gdes")
    )
    for name, tensor in shared(**make_batch())._asdict().items():
        assert tensor is None or torch.equal(tensor, getattr(gdes(**make_batch()), name)), name
    assert torch.equal(gdes(**make_batch()).gen_logits, source(**make_batch()).gen_logits)


def test_a_discriminator_from_elsewhere_keeps_its_tables_beside_a_given_generator(
    build_model, begin, tmp_path
):
    source, other = build_model(seed=1), build_model(seed=2, embedding_sharing="gdes")
    torch.nn.init.normal_(other.embeddings.embed_tokens.delta)
    model = begin(save(source, tmp_path / "old.pt"), embedding_sharing="gdes")
    model.keeps_generator = 1
    model.load_state_dict(other.state_dict())
    tokens = make_batch()["src_tokens"]
    torch.testing.assert_close(model.encode(tokens)[0], other.encode(tokens)[0])
    assert torch.equal(model(**make_batch()).gen_logits, source(**make_batch()).gen_logits)


def test_a_longer_generator_is_cut_to_the_positions_there_are(build_model, begin, tmp_path):
    source = build_model(max_positions=48)
    model = begin(save(source, tmp_path / "old.pt"), freeze_generator=True)
    assert torch.equal(model(**make_batch()).gen_logits, source(**make_batch()).gen_logits)


def test_what_a_run_begins_from_leaves_a_given_generator_as_it_is(build_model, begin, tmp_path):
    """--finetune-from-model gives the discriminator alone."""
    source, other = build_model(seed=1), build_model(seed=2)
    model = begin(save(source, tmp_path / "old.pt"), freeze_generator=True)
    model.keeps_generator = 1
    model.load_state_dict(other.state_dict())
    assert torch.equal(model.encoder.layers[0].fc1.weight, other.encoder.layers[0].fc1.weight)
    assert torch.equal(model(**make_batch()).gen_logits, source(**make_batch()).gen_logits)


def test_averages_begin_with_the_given_generator_and_follow_it(build_model, begin, tmp_path):
    """Also beside those of --finetune-from-model; --fp16 --ema-fp32 loads them in each update."""
    source, other, averages = (build_model(seed=seed) for seed in (1, 2, 3))
    model = begin(save(source, tmp_path / "old.pt")).half()
    model.keeps_generator = 2
    model.load_state_dict(other.state_dict())
    ema = EMA(model, EMAConfig(store_ema=True, ema_decay=0.75, ema_fp32=True))
    ema.restore(averages.state_dict())
    ema.build_fp32_params()
    head, given = ema.get_model().generator.head.dense, source.generator.head.dense
    assert torch.equal(head.weight, given.weight.half())
    with torch.no_grad():
        model.generator.head.dense.weight += 4
    ema.step(model)
    torch.testing.assert_close(head.weight.float(), given.weight + 1, atol=1e-2, rtol=0)


@pytest.mark.parametrize("store_ema", [False, True])
def test_a_run_that_goes_on_keeps_no_given_generator(build_model, tmp_path, store_ema):
    """Also from another checkpoint than checkpoint_last.pt, and if the given one is gone."""
    path = save(build_model(), tmp_path / "old.pt")
    run = {"checkpoint": {"finetune_from_model": "x.pt", "save_dir": str(tmp_path)}}
    run["ema"] = {"store_ema": store_ema}
    for loads in (1 + store_ema, 0):
        cfg = as_configured(run, generator_from=str(path))
        given = take_generator(cfg)
        model = build_model(**{**cfg, "seed": 7})
        begin_with(model, given, cfg)
        assert model.keeps_generator == loads
        state = torch.load(path, weights_only=True)
        torch.save({**state, "extra_state": {}, "optimizer_history": []}, tmp_path / OWN)
    path.unlink()
    assert take_generator(as_configured(run, generator_from=str(path))).path == tmp_path / OWN


def as_configured(run=None, **options):
    """The model's part of fairseq's configuration, `run` the other parts."""
    model = OmegaConf.structured(ElectraConfig(**{**TINY, **BY_ARCH, **options}))
    return OmegaConf.create({"model": model, **(run or {})}).model


@pytest.mark.parametrize(
    ("options", "run", "message"),
    [
        ({"freeze_generator": True}, {}, "--generator-from"),
        (
            {
                "freeze_generator": True,
                "embedding_sharing": "none",
                "generator_embedding_size": 64,
            },
            {},
            "freeze random weights",
        ),
        ({"freeze_generator": True, "two_tower_generator": True}, {}, "--two-tower-generator"),
        ({"generator_from": "gone.pt"}, {}, "--generator-from gone.pt"),
        ({"generator_from": "old.pt", "generator_size": 0.5}, {}, "leave out --generator-size"),
        ({"generator_from": "old.pt", "generator_layers": 2}, {}, "--generator-layers"),
        (
            {"generator_from": "old.pt", "init_discriminator_from": "generator"},
            {},
            "2 layers of 16, FFN 64, 1 heads, embeddings of 16, the discriminator 2 layers of 32",
        ),
        (
            {"generator_from": "old.pt", "init_discriminator_from": "generator"},
            {"checkpoint": {"finetune_from_model": "x.pt", "save_dir": "."}},
            "--finetune-from-model",
        ),
        ({"init_discriminator_from": "generator"}, {}, "--generator-from"),
        ({"generator_from": "old.pt", "embedding_size": 8}, {}, "16 wide.*--embedding-size 8"),
        ({"generator_from": "old.pt", "max_positions": 64}, {}, "--max-positions 64"),
        ({"generator_from": "text.pt"}, {}, "--generator-from text.pt is no checkpoint"),
        ({"generator_from": "tuned.pt"}, {}, "--generator-from tuned.pt has no generator"),
        (
            {"generator_from": "old.pt", "freeze_generator": True},
            {"criterion": {"gen_weight": 2.0, "disc_weight": 50.0}},
            "--gen-weight 2",
        ),
        (
            {"generator_from": "old.pt", "freeze_generator": True},
            {"criterion": {"gen_weight": 1.0, "disc_weight": 0.0}},
            "--disc-weight 0",
        ),
    ],
)
def test_bad_options_are_named(build_model, tmp_path, monkeypatch, options, run, message):
    monkeypatch.chdir(tmp_path)
    save(build_model(), "old.pt")
    save(build_model(pretrain=False), "tuned.pt")
    (tmp_path / "text.pt").write_text("no checkpoint")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        take_generator(as_configured(run, **options))


def test_another_dictionary_is_refused(build_model, begin, tmp_path):
    words = make_dictionary()
    words.symbols[5], words.symbols[6] = words.symbols[6], words.symbols[5]
    assert fingerprint(words) != fingerprint(make_dictionary())
    path = save(build_model(dictionary=words), tmp_path / "old.pt")
    with pytest.raises(ValueError, match=r"--generator-from .*old.pt: .*another dictionary"):
        begin(path, freeze_generator=True)


# --- the temperature


def test_the_falling_temperature_by_hand():
    assert lower_temperature(2.0, 0.0, 0.1) == 2.0
    assert lower_temperature(2.0, 0.1, 0.1) == pytest.approx(1 + 1 / math.e)
    assert lower_temperature(3.0, 0.5, 0.25) == pytest.approx(1 + 2 * math.exp(-2))
    assert lower_temperature(0.5, 0.1, 0.1) == pytest.approx(1 - 0.5 / math.e)


def test_samples_are_drawn_at_the_temperature_of_the_update(build_model):
    """10 of 40 updates with a decay of a quarter: what is above 1 has fallen by a factor of e."""
    model = build_model(temperature=9.0, temperature_decay=0.25, dropout=0.0)
    model.generator.head.bias.data = 4 * torch.randn(model.generator.head.bias.shape)
    model.max_update = 40
    uniform = torch.tensor([[0.1, 0.3], [0.5, 0.9]], dtype=torch.float64)
    samples = {}
    for update in (0, 10):
        model.set_num_updates(update)
        output = model(**{**make_batch(), "uniform": uniform})
        now = 1 + 8 * math.exp(-update / 10)
        expected = sample_tokens(output.gen_logits, uniform, now)
        samples[update] = output.sampled_tokens
        assert torch.equal(output.sampled_tokens, expected)
    assert not torch.equal(samples[0], samples[10])


@pytest.mark.campaign
def test_the_temperature_is_no_part_of_the_compiled_graph(build_model):
    model = build_model(temperature=2.0, temperature_decay=0.1)
    model.max_update = 10
    counter = CompileCounter()
    model.steps["pretrain"] = torch.compile(model.pretrain, backend=counter, dynamic=False)
    for update in range(4):
        model.set_num_updates(update)
        model(**make_batch())
    assert counter.frame_count == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature_decay": 0.1}, "--temperature is 1"),
        ({"temperature_decay": 0.0, "temperature": 2.0}, "--temperature-decay must be"),
        ({"temperature_decay": math.nan, "temperature": 2.0}, "--temperature-decay must be"),
        ({"generator_embedding_size": 8}, "--embedding-sharing none, not all"),
        (
            {"generator_embedding_size": 8, "embedding_sharing": "gdes"},
            "--embedding-sharing none, not gdes",
        ),
        (
            {"freeze_generator": True, "embedding_sharing": "gdes"},
            "--embedding-sharing gdes .* --freeze-generator",
        ),
    ],
)
def test_options_without_a_meaning_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        check_config(ElectraConfig(**{**TINY, **options}))


def test_a_temperature_that_falls_needs_an_end(build_model):
    with pytest.raises(ValueError, match="--max-update"):
        build_model(temperature=2.0, temperature_decay=0.1)(**make_batch())


# --- both stages, as commands

SIZES = [
    option for name, value in SAME_SIZE.items() for option in ("--" + name.replace("_", "-"), value)
]


def read(save_dir, name="checkpoint_last.pt"):
    return torch.load(save_dir / name, weights_only=True)


def test_both_stages_and_a_resume_without_the_first(data_bin, tmp_path, train_electra):
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--max-update", 4, "--save-interval-updates", 2, "--dropout", 0.1)
    train_electra(data_bin, first, *options, *SIZES, "--disc-weight", 0)
    source = first / "checkpoint_last.pt"
    options += ("--generator-from", source, "--init-discriminator-from", "generator")
    options += ("--freeze-generator", "--temperature", 2, "--temperature-decay", 0.1)
    options += ("--store-ema", "--ema-decay", 0.9)
    train_electra(data_bin, second, *options)
    before, state = read(first)["model"], read(second)
    after, averaged = state["model"], state["extra_state"]["ema"]
    for name, tensor in before.items():
        if name.startswith(("generator.", "embeddings.")):
            name = "generator." + name.removeprefix("generator.")
            assert torch.equal(after[name], tensor), name
            assert torch.equal(averaged[name], tensor), name
    assert not torch.equal(
        after["embeddings.embed_tokens.weight"], before["embeddings.embed_tokens.weight"]
    )
    assert not torch.equal(
        after["encoder.layers.0.fc1.weight"], before["generator.encoder.layers.0.fc1.weight"]
    )

    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copy(second / "checkpoint_1_2.pt", resumed / "checkpoint_last.pt")
    shutil.rmtree(first)
    output = train_electra(data_bin, resumed, *options).output
    assert "other options" not in output
    again = read(resumed)["model"]
    assert again.keys() == after.keys()
    for name, tensor in after.items():
        assert torch.equal(again[name], tensor), name

    path = str(second / "checkpoint_last.pt")
    (model,), _, _ = checkpoint_utils.load_model_ensemble_and_task([path])
    assert torch.equal(model.generator.head.bias, before["generator.head.bias"])
    assert model.temperature_now() == pytest.approx(1 + math.exp(-10))
