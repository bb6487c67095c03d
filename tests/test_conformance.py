"""Every registered component keeps every rule of its kind, whoever wrote it."""

import pytest

from fusion_engine import Engine
from fusion_engine.testing import check_component, rules

ENGINE = Engine()
SMALL = {
    "encoder/image.conv": {"channels": 4, "width": 8, "pooled": 8},
    "encoder/image.timm": {"model": "test_resnet.r160_in1k"},
    "decoder/image.conv": {"channels": 4},
    "encoder/audio.mel_cnn": {"channels": 4, "width": 8, "pooled": 8},
    "encoder/audio.wave_cnn": {"channels": 4, "width": 8, "pooled": 8},
    "decoder/audio.mel": {"channels": 8},
    "decoder/audio.wave_cnn": {"channels": 4},
    "decoder/sequence.conv": {"channels": 4},
    "encoder/text.transformer": {"width": 8},
    "decoder/text.rnn": {"width": 8, "embedding": 6},
    "decoder/text.transformer": {"width": 8},
    "prior/generative.mixture": {"latent": 3, "components": 4},
    "fusion/fusions.self_attention": {"width": 8, "heads": 2, "depth": 1},
}
"""Configs that make a component small; defaults are used for all others."""
VARIANTS = [
    ("encoder/image.timm", {"model": "test_vit.r160_in1k"}),
    ("encoder/sequence.rnn", {"cell": "lstm", "layers": 2, "bidirectional": False, "width": 8}),
    ("encoder/sequence.transformer", {"width": 8, "heads": 2, "layers": 1, "dropout": 0.3}),
    ("decoder/sequence.rnn", {"cell": "lstm", "width": 8}),
    ("encoder/text.transformer", {"model": "roberta", "width": 8, "layers": 1, "dropout": 0.3}),
    ("encoder/text.transformer", {"model": "distilbert", "width": 8, "config": {"hidden_dim": 10}}),
    ("encoder/text.transformer", {"model": "electra", "width": 8, "config": {"embedding_size": 6}}),
    ("decoder/text.rnn", {"width": 8, "forget": 0.3}),
    ("decoder/text.transformer", {"width": 8, "layers": 1, "heads": 1, "forget": 0.3}),
    ("fusion/fusions.concat", {"depth": 2, "width": 8, "hidden": 6, "activation": "silu"}),
    ("fusion/fusions.self_attention", {"width": 8, "heads": 1, "depth": 2, "dropout": 0.3}),
    ("head/fusions.score", {"hidden": 5}),
    ("head/fusions.classification", {"hidden": 5}),
    ("recipe/generative.vae_gan", {"posterior": "poe", "discriminator": "both", "private": {"data": 2}}),
    ("recipe/generative.gan", {"given": ["label"], "discriminator": "each"}),
]
"""Further configs that change what is computed."""
SKIP: dict[str, dict[str, str]] = {
    "modality/audio.mel": {"prepare-restore": "a spectrogram keeps no phases, so the sound is only estimated"},
}
"""Rules that a component does not keep, each with its reason."""


@pytest.mark.parametrize("name", ENGINE.registry.entries)
def test_component_keeps_every_rule(name):
    report = check_component(name, engine=ENGINE, config=SMALL.get(name), skip=SKIP.get(name))
    assert {*report.passed, *report.skipped} == set(rules(report.kind))


@pytest.mark.parametrize(("name", "config"), VARIANTS, ids=lambda x: x if isinstance(x, str) else "")
def test_variant_keeps_every_rule(name, config):
    assert not check_component(name, engine=ENGINE, config=config).skipped


def test_every_plugin_is_loaded():
    assert [str(info) for info in ENGINE.plugins.infos if info.state != "loaded"] == []


def test_tables_name_registered_components():
    assert {*SMALL, *SKIP} <= set(ENGINE.registry.entries)
