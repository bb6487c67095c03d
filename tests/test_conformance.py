"""Every registered component keeps every rule of its kind, whoever wrote it."""

import pytest

from fusion_engine import Engine
from fusion_engine.testing import check_component, rules

ENGINE = Engine()
SMALL = {
    "encoder/image.conv": {"channels": 4, "width": 8, "pooled": 8},
    "encoder/image.timm": {"model": "test_resnet.r160_in1k"},
    "decoder/image.conv": {"channels": 4},
    "encoder/image.mlp": {"widths": [12, 8]},
    "decoder/image.mlp": {"widths": [8, 12]},
    "encoder/image.dcgan": {"widths": [4, 6], "pooled": 8},
    "decoder/image.dcgan": {"widths": [4, 6]},
    "encoder/audio.mel_cnn": {"channels": 4, "width": 8, "pooled": 8},
    "encoder/audio.wave_cnn": {"channels": 4, "width": 8, "pooled": 8},
    "decoder/audio.mel": {"channels": 8},
    "decoder/audio.wave_cnn": {"channels": 4},
    "decoder/sequence.conv": {"channels": 4},
    "decoder/sequence.recurrent_generator": {"noise": 1, "every": 8, "width": 8},
    "encoder/text.transformer": {"width": 8},
    "decoder/text.rnn": {"width": 8, "embedding": 6},
    "decoder/text.transformer": {"width": 8},
    "encoder/tabular.mlp": {"widths": [8, 6]},
    "decoder/tabular.mlp": {"widths": [6, 8]},
    "decoder/tabular.generator": {"widths": [6, 8]},
    "dataset/tabular.gaussians": {"rows": 100},
    "prior/generative.mixture": {"latent": 3, "components": 4},
    "prior/generative.fitted_flow": {"latent": 3, "layers": 4, "width": 8, "epochs": 3},
    "prior/generative.flow": {"latent": 3, "layers": 4, "width": 8},
    "prior/generative.vamp": {"latent": 3, "components": 4},
    "posterior/generative.cross_private": {"own": "first"},
    "loss/generative.iwae": {"samples": 3},
    "loss/generative.dreg": {"samples": 3},
    "fusion/fusions.mixture_of_experts": {"width": 8},
    "fusion/fusions.tensor": {"width": 8, "inner": 2},
    "fusion/fusions.compact_bilinear": {"width": 8, "size": 64},
    "fusion/fusions.self_attention": {"width": 8, "heads": 2, "depth": 1},
    "fusion/fusions.crossmodal": {"width": 8, "inner": 4, "heads": 2, "depth": 1},
    "fusion/fusions.bottleneck": {"width": 8, "heads": 2},
    "fusion/fusions.perceiver": {"width": 8, "heads": 2, "latents": 3, "depth": 1},
    "loss/supervised.binary_cross_entropy": {"head": "mark"},
    "loss/supervised.squared_error": {"head": "estimate"},
    "loss/supervised.huber": {"head": "estimate"},
    "loss/supervised.ordinal": {"head": "rank"},
    "loss/alignment.clip": {"nodes": ["encode_*"]},
    "loss/alignment.siglip": {"nodes": ["encode_*"]},
    "loss/alignment.deep_cca": {"nodes": ["encode_*"], "minimum": 3},
}
"""Configs that make a component small; defaults are used for all others."""
PLAYERS = {"loss/generative.introspective": {"discriminator": ["encode_*", "posterior"]}}
"""Players of the graph that a loss is checked on, where its wiring does not tell them."""
VARIANTS = [
    ("encoder/image.dcgan", {"widths": [4], "pooled": 8, "batch_norm": True}),
    ("decoder/image.dcgan", {"widths": [4, 6], "batch_norm": True, "output": "linear"}),
    ("decoder/image.mlp", {"widths": [12], "output": "linear", "scale": 0.5}),
    ("encoder/image.timm", {"model": "test_vit.r160_in1k"}),
    ("encoder/sequence.rnn", {"cell": "lstm", "layers": 2, "bidirectional": False, "width": 8}),
    ("encoder/sequence.transformer", {"width": 8, "heads": 2, "layers": 1, "dropout": 0.3}),
    ("decoder/sequence.rnn", {"cell": "lstm", "width": 8}),
    ("decoder/sequence.recurrent_generator", {"noise": 3, "every": 16, "cell": "lstm", "width": 8, "layers": 2}),
    ("encoder/text.transformer", {"model": "roberta", "width": 8, "layers": 1, "dropout": 0.3}),
    ("encoder/text.transformer", {"model": "distilbert", "width": 8, "config": {"hidden_dim": 10}}),
    ("encoder/text.transformer", {"model": "electra", "width": 8, "config": {"embedding_size": 6}}),
    ("decoder/text.rnn", {"width": 8, "forget": 0.3}),
    ("decoder/text.transformer", {"width": 8, "layers": 1, "heads": 1, "forget": 0.3}),
    ("prior/generative.mixture", {"latent": 3, "components": 4, "infer": True}),
    ("fusion/fusions.concat", {"depth": 2, "width": 8, "hidden": 6, "activation": "silu"}),
    ("fusion/fusions.attention_sum", {"width": 8, "hidden": 5}),
    ("fusion/fusions.multiplicative", {"width": 8, "rank": 3}),
    ("fusion/fusions.deep_sets", {"width": 8, "hidden": 6, "depth": 2, "activation": "gelu"}),
    ("fusion/fusions.mixture_of_experts", {"width": 8, "experts": 3, "chosen": 3, "hidden": 6}),
    ("fusion/fusions.low_rank", {"width": 8, "rank": 1}),
    ("fusion/fusions.mfb", {"width": 8, "window": 1, "dropout": 0.3}),
    ("fusion/fusions.mfh", {"width": 8, "inner": 4, "order": 3, "window": 2, "dropout": 0.3}),
    ("fusion/fusions.mutan", {"width": 8, "inner": 4, "rank": 1}),
    ("fusion/fusions.block", {"width": 8, "inner": 6, "chunks": 1, "rank": 2}),
    ("fusion/fusions.compact_bilinear", {"width": 8, "size": 33, "seed": 3}),
    ("fusion/fusions.self_attention", {"width": 8, "heads": 1, "depth": 2, "dropout": 0.3}),
    ("fusion/fusions.crossmodal", {"width": 8, "inner": 4, "heads": 1, "depth": 2, "dropout": 0.3}),
    ("fusion/fusions.bottleneck", {"width": 8, "heads": 1, "depth": 2, "fusion_from": 0, "dropout": 0.3}),
    ("fusion/fusions.perceiver", {"width": 8, "heads": 1, "latents": 2, "dropout": 0.3}),
    ("head/fusions.score", {"hidden": 5}),
    ("head/fusions.classification", {"hidden": 5}),
    ("modality/tabular.number", {"centre": [1.5, -300.0], "deviation": [0.25, 40.0]}),
    ("encoder/tabular.mlp", {"widths": [6], "activation": "gelu"}),
    ("decoder/tabular.mlp", {"widths": [6], "activation": "silu", "scale": 0.5}),
    ("decoder/tabular.generator", {"widths": [6], "activation": "leaky_relu"}),
    ("dataset/tabular.gaussians", {"layout": "ring", "rows": 100, "validation": 20}),
    ("modality/tabular.tags", {"classes": ["low", "high"]}),
    ("head/supervised.multi_label", {"hidden": 5, "threshold": 0.3}),
    ("head/supervised.regression", {"hidden": 5}),
    ("head/supervised.ordinal", {"hidden": 5}),
    ("posterior/generative.cross_private", {"own": "first", "latent": 3}),
    ("loss/generative.iwae", {"samples": 3, "chunk": 2, "balance": False, "weights": {"series": 0.5}}),
    ("loss/generative.dreg", {"samples": 3, "chunk": 1, "nodes": ["decode_v*"]}),
    ("recipe/generative.vae_gan", {"posterior": "poe", "discriminator": "both", "private": {"data": 2}}),
    ("ensemble/ensembles.greedy_selection", {"metric": "accuracy", "bags": 3, "start": 2, "rounds": 6}),
    ("ensemble/ensembles.stacking", {"cv": 2}),
    ("ensemble/ensembles.gan_ensemble", {"rejection": True, "burn_in": 50, "samples": 40, "percentile": 20.0}),
    ("loss/ensembles.evidential", {"annealing_steps": 0, "heads": ["classify"]}),
    ("recipe/generative.gan", {"given": ["label"], "discriminator": "each"}),
    ("loss/generative.capacity_kl", {"capacity": 2.0, "capacity_steps": 0}),
    ("recipe/generative.autoencoder", {"target": "label"}),
    ("recipe/generative.beta_vae", {"capacity": 5.0}),
    ("recipe/generative.aae", {"private": {"data": 2}, "components": 3}),
    ("recipe/generative.bigan", {"private": {"data": 2}}),
    ("recipe/generative.alpha_gan", {"discriminator": "both", "private": {"data": 2}}),
]
"""Further configs that change what is computed."""
SKIP: dict[str, dict[str, str]] = {
    "loss/sequence.length": {"players": "the sequences of the kit's graph say nothing about their length"},
    "modality/audio.mel": {"prepare-restore": "a spectrogram keeps no phases, so the sound is only estimated"},
    "recipe/generative.recurrent_gan": {
        "config-round-trip": "the kit tries an image, which is no sequence",
        "builds-two": "the kit tries an image, which is no sequence",
    },
    "loss/generative.order": {"players": "the encoders of the kit's graph are blind to order"},
    "loss/generative.mean_feature_matching": {"row-additive": "a mean is of all rows of a micro-batch"},
    "loss/alignment.clip": {"row-additive": "a row is compared with the others of its micro-batch"},
    "loss/alignment.siglip": {"row-additive": "a row is compared with the others of its micro-batch"},
    "loss/alignment.deep_cca": {"row-additive": "a correlation is of all rows of a micro-batch"},
}
"""Rules that a component does not keep, each with its reason."""


@pytest.mark.parametrize("name", ENGINE.registry.entries)
def test_component_keeps_every_rule(name):
    options = {"config": SMALL.get(name), "skip": SKIP.get(name), "players": PLAYERS.get(name)}
    report = check_component(name, engine=ENGINE, **options)
    assert {*report.passed, *report.skipped} == set(rules(report.kind))


@pytest.mark.parametrize(("name", "config"), VARIANTS, ids=lambda x: x if isinstance(x, str) else "")
def test_variant_keeps_every_rule(name, config):
    assert not check_component(name, engine=ENGINE, config=config).skipped


def test_every_plugin_is_loaded():
    assert [str(info) for info in ENGINE.plugins.infos if info.state != "loaded"] == []


def test_tables_name_registered_components():
    assert {*SMALL, *SKIP} <= set(ENGINE.registry.entries)
