"""What no gradient has reached is told at the end of training, by node and parameter, and nothing else is."""

import logging

import pytest
from scenario import VAE, build, config, table

STAGES = [{"name": "only", "steps": 12, "losses": VAE}]


def told(given, caplog, data=None):
    with caplog.at_level(logging.WARNING, "fusion_engine"):
        build(given).fit(data or table())
    return [r.getMessage() for r in caplog.records if "no gradient has reached" in r.getMessage()]


def whole():
    return {m: [x for x in column if x is not None][:20] for m, column in table().items()}


def test_experts_that_nothing_teaches_are_named(caplog):
    given = config(STAGES)
    given["nodes"]["post"]["use"] = "posterior/jmvae"
    (message,) = told(given, caplog, whole())
    assert "'post': experts." in message
    assert message.count("experts.") == 2  # one an input; their biases go without saying
    assert "'enc_x'" not in message  # the joint reads them
    assert "add a loss that reaches them" in message


def test_with_their_loss_or_with_gaps_they_learn(caplog):
    given = config(STAGES)
    given["nodes"]["post"]["use"] = "posterior/jmvae"
    assert told(given, caplog) == []  # half of the cells are missing: rows without everything have the experts alone
    given["losses"]["experts"] = {"use": "loss/jmvae_kl"}
    given["stages"] = [{"name": "only", "steps": 12, "losses": [*VAE, "experts"]}]
    assert told(given, caplog, whole()) == []


def test_placeholders_that_complete_rows_do_not_need_are_no_news(caplog):
    assert told(config(), caplog, whole()) == []  # nor is the last bias of a relativistic score


@pytest.mark.parametrize("stages", [None, [{"name": "only", "steps": 12, "losses": VAE, "learn": ["dec_*"]}]])
def test_what_learns_and_what_is_not_to_is_no_news(caplog, stages):
    assert told(config(stages), caplog) == []


def test_a_few_steps_tell_nothing(caplog):
    given = config([{"name": "only", "steps": 2, "losses": VAE}])
    given["nodes"]["post"]["use"] = "posterior/jmvae"
    assert told(given, caplog, whole()) == []
