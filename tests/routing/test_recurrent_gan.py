"""A recurrent GAN: C-RNN-GAN, Mogren 2016, arXiv:1611.09904, and RCGAN, Esteban et al. 2017, arXiv:1706.02633, played
relativistically, with the terms for length, order and feature means.

    decoder, the condition's encoder  <- the generator's cost + length + matching
    discriminator                     <- its own cost and penalties + order

GRUs run step by step, on one row's valid steps alone.
"""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import Key, Screen, check, check_gaps, engine, read, read_table, subsets
from torch import Tensor
from torch.nn.functional import relu, silu

CONFIG = """
modalities:
  x: {use: modality/sequence, with: {channels: 2, length: 5, binary: [1]}}
  c: {use: modality/toys.vector, with: {size: 2}}
nodes:
  given:    {use: encoder/toys.mlp, in: c}
  noise:    {use: prior/normal, with: {latent: 2}}
  noise_x:  {use: prior/normal, with: {latent: 4}}
  dec_x:    {use: decoder/sequence.recurrent_generator, in: {z: [noise, noise_x], given: given}, out: x,
             with: {noise: 1, every: 2, steps: 7, width: 4}}
  disc_x:   {use: encoder/sequence.rnn, in: x, with: {width: 3}}
  disc_c:   {use: encoder/toys.mlp, in: c}
  disc_all: {use: fusion/concat, in: [disc_x, disc_c], with: {width: 4, activation: silu}}
  score:    {use: head/score, in: disc_all}
losses:
  game:     {use: loss/relativistic, with: {score: score, weight: 0.8, r1: 0.5, r2: 0.3}}
  length:   {use: loss/sequence.length, with: {weight: 0.7}}
  order:    {use: loss/order, with: {score: score, weight: 0.6}}
  matching: {use: loss/mean_feature_matching, with: {score: score, weight: 0.4}}
"""

TABLE = """
                       | given dec_x | disc_x disc_c disc_all score
generator     game     | .8          | 0
discriminator game     | 0           | .8
generator     length   | .7          | 0
discriminator order    | 0           | .6
generator     matching | .4          | 0
"""

WHOLE, GAPS = ["xc"] * 4, subsets("xc") * 2
Activation = Callable[[Tensor], Tensor]
Condition = Callable[[Hand, Row], Tensor]


def gru(h: Hand, node: str, path: str, steps: list[Tensor]) -> list[Tensor]:
    """The states of a GRU, Cho et al. 2014, as torch orders its gates."""
    w, u, b, c = (h.weight(node, f"{path}.{kind}_l0") for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    state, found = torch.zeros(u.shape[1], dtype=torch.float64), []
    for x in steps:
        (ri, zi, ni), (rh, zh, nh) = (w @ x + b).chunk(3), (u @ state + c).chunk(3)
        reset, update = torch.sigmoid(ri + rh), torch.sigmoid(zi + zh)
        state = (1 - update) * torch.tanh(ni + reset * nh) + update * state
        found.append(state)
    return found


def zeros_if_missing(h: Hand, row: Row) -> Tensor:
    return h.net("given", row["c"]) if "c" in row else torch.zeros(3, dtype=torch.float64)


class Formulas:
    """Everything from a row and its draws."""

    def __init__(self, activation: Activation, condition: Condition, every: int, draws: int) -> None:
        self.activation, self.condition, self.every, self.draws = activation, condition, every, draws

    def steps(self, h: Hand, i: int, row: Row) -> list[Tensor]:
        """(mean, logit, stop) of each of the five steps."""
        shared, own = h.normal(i, 2, "prior", "noise"), h.normal(i, self.draws, "prior", "noise_x")
        given, position = self.condition(h, row), h.weight("dec_x", "position")
        inputs = [
            h.linear("dec_x", "linear", torch.cat([shared, given, own[t // self.every][None]])) + position[t]
            for t in range(5)
        ]
        return [h.linear("dec_x", "out", state) for state in gru(h, "dec_x", "layers.0", inputs)]

    def made(self, h: Hand, i: int, row: Row) -> Row:
        """x~, as long as x, its second channel 0 or 1 with the gradient of the probability."""
        if "x" not in row:
            return row
        found = []
        for mean, logit, _ in self.steps(h, i, row)[: len(row["x"])]:
            p = torch.sigmoid(logit)
            found.append(torch.stack([mean, (p >= 0.5).double() + p - p.detach()]))
        return {**row, "x": torch.stack(found)}

    def read(self, h: Hand, x: Tensor) -> Tensor:
        """Both directions' last states."""
        onward = gru(h, "disc_x", "layers.0.onward", list(x))[-1]
        return torch.cat([onward, gru(h, "disc_x", "layers.0.back", list(x.flip(0)))[-1]])

    def score(self, h: Hand, row: Row) -> Tensor:
        vectors = [
            self.read(h, row["x"]) if "x" in row else None,
            h.net("disc_c", row["c"]) if "c" in row else None,
        ]
        return h.score("score", h.concat("disc_all", vectors, self.activation))

    def deceive(self, h: Hand) -> Tensor:
        return h.mean(lambda i, row: minus_log_sigmoid(self.score(h, self.made(h, i, row)) - self.score(h, row)))

    def judge(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            fake = self.made(h, i, row)
            r1, r2 = (squared_gradient(partial(self.score, h), r) for r in (row, fake))
            game = minus_log_sigmoid(self.score(h, row) - self.score(h, fake))
            return game + (0.5 * r1 + 0.3 * r2) / 2

        return h.mean(cost)

    def length(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            hazard = [torch.sigmoid(stop) for _, _, stop in self.steps(h, i, row)]
            hazard[-1] = torch.ones_like(hazard[-1])
            n = len(row["x"])
            return -torch.stack([*(torch.log(1 - p) for p in hazard[: n - 1]), torch.log(hazard[n - 1])]).sum()

        return h.mean(cost, "x")

    def order(self, h: Hand) -> Tensor:
        luck = h.noise.at("order", "x").uniform(5)

        def cost(i: int, row: Row) -> Tensor:
            shuffled = {**row, "x": row["x"][luck[i, : len(row["x"])].argsort()]}
            return minus_log_sigmoid(self.score(h, row) - self.score(h, shuffled))

        return h.mean(cost, "x")

    def matching(self, h: Hand) -> Tensor:
        """The condition is the same in both."""
        rows = h.rows("x")
        real = sum(self.read(h, row["x"]) for _, row in rows) / len(rows)
        fake = sum(self.read(h, self.made(h, i, row)["x"]) for i, row in rows) / len(rows)
        return ((real - fake) ** 2).mean()

    def all(self, game: str = "game") -> dict[Key, Callable[[Hand], Tensor]]:
        return {
            ("generator", game): self.deceive,
            ("discriminator", game): self.judge,
            ("generator", "length"): self.length,
            ("discriminator", "order"): self.order,
            ("generator", "matching"): self.matching,
        }


SCREEN = Screen(read(CONFIG), read_table(TABLE), Formulas(silu, zeros_if_missing, 2, 4).all())


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_recurrent_gan(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


RECIPE_TABLE = """
                          | given_c given dec_x | disc_x disc_c disc_all score
generator     adversarial | 1                   | 0
discriminator adversarial | 0                   | 1
generator     length      | 1                   | 0
discriminator order       | 0                   | .6
generator     matching    | .4                  | 0
"""


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_the_recipe(rows) -> None:
    """The condition has a fusion of its own there, which knows what is missing."""
    sequence = {"use": "modality/sequence", "with": {"channels": 2, "binary": [1]}}
    vector = {"use": "modality/toys.vector", "with": {"size": 2}}
    options = {"given": ["c"], "latent": 2, "noise": 1, "length": 5, "width": 8, "r1": 0.5, "r2": 0.3, "order": 0.6}
    more = {"matching": 0.4, "train": {"seed": 11}}  # weights with which a shuffled row moves the fusion's units
    config = engine().recipe_config("recurrent_gan", {"x": sequence, "c": vector}, **options, **more)

    def condition(h: Hand, row: Row) -> Tensor:
        return h.concat("given", [h.net("given_c", row["c"]) if "c" in row else None], relu)

    formulas = Formulas(relu, condition, 1, 5).all("adversarial")
    check(Screen(config, read_table(RECIPE_TABLE), formulas), rows)
