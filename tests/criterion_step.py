"""One batch through model and ElectraCriterion, forwards and backwards."""

from fairseq_electra.criterions.electra import ElectraCriterion, ElectraCriterionConfig
from tiny import make_batch, make_dictionary


def step(model, num_updates=0, sampled_tokens=None, **weights):
    """The batch's loss, backwards, and the logging output; `weights` are the criterion's."""
    task = type("Task", (), {"target_dictionary": make_dictionary()})()
    criterion = ElectraCriterion(ElectraCriterionConfig(**weights), task)
    model.set_num_updates(num_updates)
    batch = {**make_batch(), "sampled_tokens": sampled_tokens}
    sample = {"net_input": batch, "ntokens": 10, "npicked": 3, "nsentences": 2}
    loss, sample_size, log = criterion(model, sample)
    loss.backward()
    return loss.detach() / sample_size, log
