"""Any encoder may serve in a discriminator: attention is penalised exactly, what cannot be is approximated and said."""

import logging

import torch

from fusion_engine import Batch, Clock, Engine, Noise, Run, Signal
from fusion_engine.training.turns import Turn, take_turn

CONFIG = {
    "modalities": {"strokes": {"use": "modality/sequence", "with": {"channels": 2, "length": 5, "binary": []}}},
    "nodes": {
        "noise": {"use": "prior/normal", "with": {"latent": 4}},
        "dec": {"use": "decoder/sequence.rnn", "in": {"z": "noise"}, "out": "strokes", "with": {"width": 8}},
        "disc": {"use": "encoder/sequence.transformer", "in": "strokes", "with": {"width": 8, "heads": 2, "layers": 1}},
        "score": {"use": "head/score", "in": "disc"},
    },
    "losses": {"game": {"use": "loss/relativistic", "with": {"score": "score", "r1": 1.0, "r2": 1.0}}},
}


def test_a_transformer_discriminator_is_penalised_exactly_and_trains(engine: Engine):
    graph = engine.build(CONFIG).graph.double().train()
    assert not graph.approximated
    example = graph.modalities["strokes"].example(4)
    signal = Signal(example.data.double(), example.mask)
    squared = Run(graph, Batch.of({"strokes": signal}), player="discriminator").score_and_gradient("score")[1]
    expected, h = torch.zeros(4, dtype=torch.double), 1e-5
    for n in range(5):
        for c in range(2):
            step = torch.zeros_like(signal.data)
            step[:, n, c] = h
            scores = [
                Run(graph, Batch.of({"strokes": Signal(signal.data + s, signal.mask)})).score("score").detach()
                for s in (step, -step)
            ]
            expected += ((scores[0] - scores[1]) / (2 * h)) ** 2
    torch.testing.assert_close(squared.detach(), expected, rtol=1e-5, atol=1e-9)
    disc = list(graph.parameters_of(["disc", "score"]))
    before = [p.detach().clone() for p in disc]
    turn = Turn("discriminator", {"game": graph.loss("game")}, disc, torch.optim.Adam(disc, lr=1e-2))
    for step in range(3):
        metrics = take_turn(graph, turn, [Batch.of({"strokes": signal})], Noise.of(4).at(step), Clock(step))
        assert metrics["game"] > 0
    moved = [bool((p != b).any()) for p, b in zip(disc, before, strict=True)]
    assert sum(moved) >= len(moved) - 2  # a score's last bias cancels in the relativistic game


PLUGIN = '''
import torch
from fusion_engine import Encoder, Features, SequenceModality, fill, hookimpl


class Once(torch.autograd.Function):
    """A square that can be differentiated once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 2 * ctx.saved_tensors[0] * gradient


class OnceEncoder(Encoder):
    """An encoder without a second derivative."""

    def __init__(self, modality: SequenceModality, *, width: int = 8):
        super().__init__(modality, width)
        self.linear = torch.nn.Linear(modality.channels, width)

    def encode(self, x, signal):
        return Features.of_tokens(Once.apply(self.linear(fill(x, signal.mask))), signal.mask)


@hookimpl
def register_components(registry):
    registry.encoder("once", OnceEncoder)
'''


def test_a_discriminator_without_second_derivative_is_approximated_and_the_build_says_so(tmp_path, caplog):
    file = tmp_path / "once_only.py"
    file.write_text(PLUGIN, encoding="utf-8")
    nodes = {**CONFIG["nodes"], "disc": {"use": "encoder/once", "in": "strokes"}}
    with caplog.at_level(logging.WARNING, logger="fusion_engine"):
        graph = Engine(plugins=[file]).build({**CONFIG, "nodes": nodes}).graph.train()
    assert graph.approximated == {"score"}
    assert "no double backward" in caplog.text
    assert "'score'" in caplog.text
    disc = list(graph.parameters_of(["disc", "score"]))
    turn = Turn("discriminator", {"game": graph.loss("game")}, disc, torch.optim.Adam(disc, lr=1e-3))
    batch = Batch.of({"strokes": graph.modalities["strokes"].example(6)})
    assert take_turn(graph, turn, [batch], Noise.of(6), Clock())["game"] > 0
    assert all(p.grad is not None for p in graph["disc"].parameters())
