"""Spectral normalisation of a node: the largest singular value is one, and nothing else of a node changes."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fusion_engine import Batch, BuildError, ConfigError, Engine, FusionModel, Run
from fusion_engine.training import Callback
from fusion_engine.training.trainer import Trainer

MODALITIES = {
    "image": {
        "use": "modality/image",
        "with": {"shape": [1, 8, 8]},
        "encoder": {"use": "encoder/image.conv", "with": {"channels": 4, "width": 8, "pooled": 8}},
        "decoder": {"use": "decoder/image.dcgan", "with": {"widths": [8]}},
    },
    "label": {"use": "modality/category", "with": {"classes": [0, 1, 2]}},
}
TRUNK = ("disc_image", "disc_label", "disc_all", "score")


def config(engine: Engine, steps: int = 8, **train: object) -> dict:
    made = engine.recipe_config("gan", MODALITIES, given=["label"], spectral_norm=True, latent=4, width=8)
    made["nodes"]["dec_image"]["spectral_norm"] = True
    made["stages"] = [{"name": "only", "steps": steps, "losses": ["adversarial"]}]
    made["train"] |= {"batch_size": 16, "checkpoint_every": 3, **train}
    return made


def table() -> dict[str, list]:
    rng = np.random.default_rng(0)
    return {"image": list(rng.normal(100, 50, (64, 8, 8))), "label": rng.integers(0, 3, 64).tolist()}


def normalised(model: FusionModel, node: str) -> list[tuple[nn.Module, Tensor]]:
    """Every normalised layer of a node, and its weight as a matrix [outputs, the rest]."""
    found = []
    for part in model.graph[node].modules():
        if hasattr(part, "parametrizations"):
            weight = part.weight.detach()
            found.append(
                (part, (weight.transpose(0, 1) if isinstance(part, nn.ConvTranspose2d) else weight).flatten(1))
            )
    return found


@pytest.fixture(scope="module")
def model(engine: Engine) -> FusionModel:
    return engine.build(config(engine)).fit(table())


def test_every_weight_has_one_as_its_largest_singular_value(model: FusionModel):
    layers = {node: len(normalised(model, node)) for node in (*TRUNK, "dec_image")}
    assert layers == {"disc_image": 6, "disc_label": 1, "disc_all": 2, "score": 1, "dec_image": 2}
    for node in layers:
        for part, matrix in normalised(model, node):
            assert float(torch.linalg.svdvals(matrix)[0]) == pytest.approx(1, abs=0.05)
            original = part.parametrizations.weight.original.detach()
            cosine = torch.cosine_similarity(original.flatten(), part.weight.detach().flatten(), 0)
            assert float(cosine) == pytest.approx(1, abs=1e-5)  # the same direction
    assert not normalised(model, "given_label")


def test_a_weight_that_starts_at_zero_is_drawn_anew(engine: Engine):
    made = engine.build(config(engine))
    for _, matrix in normalised(made, "disc_image"):
        assert torch.isfinite(matrix).all()
        assert float(torch.linalg.svdvals(matrix)[0]) == pytest.approx(1, abs=0.05)


def test_it_can_be_penalised_exactly(model: FusionModel):
    """The gradient of the penalty to the weights, by central differences along a random direction."""
    assert not model.graph.approximated
    graph = copy.deepcopy(model.graph).double().eval()
    (run,) = model.runs({k: v[:4] for k, v in table().items()})
    signals = {m: s.map(lambda x: x.double() if x.is_floating_point() else x) for m, s in run.batch.signals.items()}
    batch = Batch.of(signals)
    parameters = list(graph.parameters_of(TRUNK))
    generator = torch.Generator().manual_seed(0)
    move = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]

    def penalty() -> Tensor:
        return Run(graph, batch, player="discriminator").score_and_gradient("score")[1].mean()

    gradient = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    slope = sum(float((g * m).sum()) for g, m in zip(gradient, move, strict=True) if g is not None)
    values = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            for p, m in zip(parameters, move, strict=True):
                p += step * m
        values.append(float(penalty().detach()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-4)


def test_frozen_it_gives_the_same_and_receives_nothing(model: FusionModel):
    (run,) = model.runs({k: v[:4] for k, v in table().items()})
    with torch.enable_grad():
        view = run.replay({}, frozen=frozenset(TRUNK))
        torch.testing.assert_close(view.score("score"), run.score("score"), rtol=0, atol=0)
        assert not view.score("score").requires_grad
    module = model.graph["score"]
    doubled = {k: 2 * p.detach() for k, p in module.named_parameters()}
    features = {"disc_all": run.features("disc_all")}
    present = torch.ones(4, 1).bool()
    bias = module.mlp[0].bias.detach()
    scores, other = module(features, present) - bias, functional_call(module, doubled, (features, present)) - 2 * bias
    torch.testing.assert_close(other.detach(), scores.detach())  # of a weight in another's place, the direction counts


def test_saved_and_loaded_it_gives_the_same(model: FusionModel, engine: Engine, tmp_path):
    model.save(tmp_path)
    again = engine.load(tmp_path)
    assert again.config.nodes["score"].spectral_norm is True
    given = {"label": [0, 1, 2]}
    assert np.array_equal(model.generate(3, given=given)["image"], again.generate(3, given=given)["image"])
    for name, x in model.graph.state_dict().items():
        assert torch.equal(x, again.graph.state_dict()[name])


class Stop(Callback):
    """Interrupts training after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step_end(self, trainer: Trainer, metrics: object) -> None:
        if trainer.progress.step == self.after:
            raise RuntimeError("stopped")


def test_resumed_it_ends_as_if_never_stopped(model: FusionModel, engine: Engine, tmp_path):
    with pytest.raises(RuntimeError, match="stopped"):
        engine.build(config(engine)).fit(table(), directory=tmp_path, callbacks=[Stop(5)])
    resumed = engine.build(config(engine)).fit(table(), directory=tmp_path, resume=True)
    for name, x in model.graph.state_dict().items():
        assert torch.equal(x, resumed.graph.state_dict()[name]), name


def test_an_average_of_a_normalised_generator_is_nearly_normalised(engine: Engine):
    made = engine.build(config(engine, 12, ema_half_life=100)).fit(table())
    for _, matrix in normalised(made, "dec_image"):
        assert float(torch.linalg.svdvals(matrix)[0]) == pytest.approx(1, abs=0.1)


def test_what_is_drawn_stays_the_same(engine: Engine):
    plain = config(engine)
    for node in plain["nodes"].values():
        node.pop("spectral_norm", None)
    free, bound = (dict(engine.build(c).graph["disc_all"].named_parameters()) for c in (plain, config(engine)))
    assert torch.equal(free["mlp.0.weight"], bound["mlp.0.parametrizations.weight.original"])


def test_what_cannot_be_normalised_is_refused(engine: Engine):
    wrong = {
        "modalities": {"series": {"use": "modality/sequence"}},
        "nodes": {"enc": {"use": "encoder/sequence.rnn", "in": "series", "spectral_norm": True}},
    }
    with pytest.raises(BuildError, match="recurrent layer") as told:
        engine.build(wrong)
    assert "node 'enc'" in str(told.value)
    assert "GRU" in str(told.value)
    wrong = config(engine)
    wrong["nodes"]["noise"]["spectral_norm"] = True
    with pytest.raises(BuildError, match="no weight"):
        engine.build(wrong)
    wrong["nodes"]["noise"]["spectral_norm"] = "yes"
    with pytest.raises(ConfigError, match="spectral_norm"):
        engine.build(wrong)
