"""A generator made of two networks, G1(G2(z)): a mapping of the noise, and a coarse image that is read and refined.

Both networks learn from the adversarial term alone, and the discriminator sees what the last one makes.
"""

from functools import partial

import pytest
import torch
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import Screen, check, engine, read, read_table
from torch import Tensor
from torch.nn.functional import leaky_relu, silu

from fusion_engine.data import Prepared

CONFIG = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
nodes:
  noise:   {use: prior/normal, with: {latent: 2}}
  mapping: {use: fusion/concat, in: noise, with: {width: 4, activation: silu}}
  refined: {use: decoder/toys.mlp, in: read, out: x}
  coarse:  {use: decoder/toys.mlp, in: mapping, out: x}
  read:    {use: encoder/toys.mlp, in: coarse}
  disc:    {use: encoder/toys.mlp, in: x}
  score:   {use: head/score, in: disc}
losses:
  game: {use: loss/relativistic, with: {score: score, weight: 0.8, r1: 0.5, r2: 0.3}}
"""

TABLE = """
                   | mapping coarse read refined | disc score
generator     game | .8                          | 0
discriminator game | 0                           | .8
"""


def made(h: Hand, i: int) -> Row:
    z = h.concat("mapping", [h.normal(i, 2, "prior", "noise")], silu)
    return {"x": h.net("refined", h.net("read", h.net("coarse", z)))}


def score(h: Hand, row: Row) -> Tensor:
    return h.score("score", h.net("disc", row["x"]))


def generator(h: Hand) -> Tensor:
    return h.mean(lambda i, row: minus_log_sigmoid(score(h, made(h, i)) - score(h, row)))


def discriminator(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        fake, d = made(h, i), partial(score, h)
        penalty = (0.5 * squared_gradient(d, row) + 0.3 * squared_gradient(d, fake)) / 2
        return minus_log_sigmoid(d(row) - d(fake)) + penalty

    return h.mean(cost)


def test_both_networks_receive_the_adversarial_gradient() -> None:
    formulas = {("generator", "game"): generator, ("discriminator", "game"): discriminator}
    check(Screen(read(CONFIG), read_table(TABLE), formulas), ["x"] * 4)


def test_generation_ends_with_the_refined_image() -> None:
    model = engine().build(read(CONFIG))
    graph = model.graph
    (run,) = model.runs(Prepared([{}, {}, {}], model.modalities), seed=5)
    with torch.no_grad():
        z = graph["mapping"]({"noise": run.features("noise")}, torch.ones(3, 1).bool())
        coarse = graph["coarse"](z.pooled, {}).mean
        expected = graph["refined"](graph["read"](coarse).pooled, {}).mean.data
    torch.testing.assert_close(model.generated_signals(3, seed=5)["x"].data, expected)


RECIPE_TABLE = """
                          | mapping dec_x | disc_x disc_all score
generator     adversarial | 1             | 0
discriminator adversarial | 0             | 1
"""


@pytest.mark.parametrize("depth", [1, 2])
def test_the_recipes_mapping(depth: int) -> None:
    """Depth 1 is one linear map of the noise; depth 2 puts a leaky ReLU between two."""
    modalities = {"x": {"use": "modality/toys.vector", "with": {"size": 3}}}
    config = engine().recipe_config("gan", modalities, mapping=depth, latent=2, width=4, r1=0.5, r2=0.3)
    assert config["nodes"]["mapping"]["with"]["depth"] == depth - 1

    def fake(h: Hand, i: int) -> Row:
        z = h.normal(i, 2, "prior", "noise")
        weights = h.graph["mapping"].mlp
        for j, layer in enumerate(m for m in weights if isinstance(m, torch.nn.Linear)):
            z = (leaky_relu(z, 0.2) if j else z) @ layer.weight.T + layer.bias
        return {"x": h.net("dec_x", z)}

    def d(h: Hand, row: Row) -> Tensor:
        return h.score("score", h.concat("disc_all", [h.net("disc_x", row["x"])], torch.relu))

    def deceive(h: Hand) -> Tensor:
        return h.mean(lambda i, row: minus_log_sigmoid(d(h, fake(h, i)) - d(h, row)))

    def judge(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            other, own = fake(h, i), partial(d, h)
            penalty = (0.5 * squared_gradient(own, row) + 0.3 * squared_gradient(own, other)) / 2
            return minus_log_sigmoid(own(row) - own(other)) + penalty

        return h.mean(cost)

    costs = {("generator", "adversarial"): deceive, ("discriminator", "adversarial"): judge}
    check(Screen(config, read_table(RECIPE_TABLE), costs), ["x"] * 4)
