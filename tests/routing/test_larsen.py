"""VAE-GAN: Larsen et al., ICML 2016, arXiv:1512.09300, algorithm 1, with two modalities and a joint discriminator.

    encoder         <- gamma (L_prior + L_feat)          never the adversarial loss
    decoder         <- gamma L_feat - (1 - gamma) L_GAN  never L_prior
    discriminator   <- (1 - gamma) L_GAN + penalties     never L_feat

gamma is .75. Each player's sum is the paper's up to one factor a group, which a learning rate absorbs.
"""

from functools import partial

import pytest
import torch
from by_hand import Hand, Row, kl, minus_log_sigmoid, nll, squared_gradient
from screen import (
    Screen,
    batch_of,
    build,
    check,
    check_gaps,
    compare,
    engine,
    hand,
    read,
    read_table,
    subsets,
    turn,
)
from torch import Tensor
from torch.nn.functional import relu, silu

CONFIG = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  y: {use: modality/toys.vector, with: {size: 2}}
nodes:
  enc_x:    {use: encoder/toys.mlp, in: x}
  enc_y:    {use: encoder/toys.mlp, in: y}
  post:     {use: posterior/poe, in: [enc_x, enc_y], with: {latent: 2}}
  dec_x:    {use: decoder/toys.mlp, in: post, out: x}
  dec_y:    {use: decoder/toys.mlp, in: post, out: y}
  disc_x:   {use: encoder/toys.mlp, in: x}
  disc_y:   {use: encoder/toys.mlp, in: y}
  disc_all: {use: fusion/concat, in: [disc_x, disc_y], with: {width: 4, activation: silu}}
  score:    {use: head/score, in: disc_all}
losses:
  prior:       {use: loss/kl, with: {beta: 0.75}}
  features:    {use: loss/feature_matching, with: {score: score, weight: 0.75, mean: false, nodes: [disc_x, disc_all]}}
  adversarial:
    use: loss/non_saturating
    with: {score: score, weight: 0.25, r1: 0.5, r2: 0.3, fakes: {reconstruction: 1, prior: 3}}
"""

TABLE = """
                          | enc_x enc_y post | dec_x dec_y | disc_x disc_y disc_all score
generator     prior       | .75              | 0           | 0
generator     features    | .75              | .75         | 0
generator     adversarial | 0                | .25         | 0
discriminator adversarial | 0                | 0           | .25
"""

SHARES = {"reconstruction": 0.25, "prior": 0.75}
WHOLE, GAPS = ["xy"] * 4, [*subsets("xy"), "xy", "y"]


class Larsen:
    """The formulas, on encoders enc_m, decoders dec_m and a discriminator disc_m, disc_all, score."""

    def __init__(self, *, activation=silu, shares=SHARES, layers=("x", "all"), mean=False, r1=0.5, r2=0.3):
        self.activation, self.shares, self.layers, self.mean = activation, shares, layers, mean
        self.r1, self.r2 = r1, r2

    def posterior(self, h: Hand, row: Row) -> tuple[Tensor, Tensor]:
        return h.product("post", [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "y")])

    def latent(self, h: Hand, i: int, row: Row) -> Tensor:
        loc, scale = self.posterior(h, row)
        return loc + scale * h.normal(i, 2, "posterior", "post")

    def decode(self, h: Hand, z: Tensor, row: Row) -> Row:
        """A fake of what the row has, and of nothing else."""
        return {m: h.net(f"dec_{m}", z) for m in row}

    def fake(self, h: Hand, i: int, row: Row, source: str) -> Row:
        prior = source == "prior"
        return self.decode(h, h.normal(i, 2, "start", "prior", "post") if prior else self.latent(h, i, row), row)

    def discriminate(self, h: Hand, row: Row) -> tuple[Tensor, Row]:
        found = {m: h.net(f"disc_{m}", x) for m, x in row.items()}
        fused = h.concat("disc_all", [found.get("x"), found.get("y")], self.activation)
        return h.score("score", fused), {**found, "all": fused}

    def score(self, h: Hand, row: Row) -> Tensor:
        return self.discriminate(h, row)[0]

    def prior(self, h: Hand) -> Tensor:
        return h.mean(lambda i, row: kl(*self.posterior(h, row)))

    def reconstruction(self, h: Hand, sizes) -> Tensor:
        """Each modality weighs the largest one's size over its own."""

        def cost(i: int, row: Row) -> Tensor:
            made = self.decode(h, self.latent(h, i, row), row)
            return sum((max(sizes.values()) / sizes[m] * nll(x, made[m]) for m, x in row.items()), torch.zeros(()))

        return h.mean(cost)

    def features(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            _, real = self.discriminate(h, row)
            _, fake = self.discriminate(h, self.fake(h, i, row, "reconstruction"))
            halves = [(real[n] - fake[n]) ** 2 / 2 for n in self.layers if n in real]
            return sum((half.mean() if self.mean else half.sum() for half in halves), torch.zeros(()))

        return h.mean(cost)

    def deceive(self, h: Hand) -> Tensor:
        """-log D(x~): the gradient of -L_GAN to the decoder, but for the saturation (test below)."""

        def cost(i: int, row: Row) -> Tensor:
            scores = {s: self.score(h, self.fake(h, i, row, s)) for s in self.shares}
            return sum((share * minus_log_sigmoid(scores[s]) for s, share in self.shares.items()), torch.zeros(()))

        return h.mean(cost)

    def judge(self, h: Hand) -> Tensor:
        """-log D(x) - log(1 - D(x~)), and gamma / 2 ||grad D||^2 at both."""

        def cost(i: int, row: Row) -> Tensor:
            total = minus_log_sigmoid(self.score(h, row)) + self.r1 / 2 * squared_gradient(partial(self.score, h), row)
            for source, share in self.shares.items():
                fake = self.fake(h, i, row, source)
                penalty = self.r2 / 2 * squared_gradient(partial(self.score, h), fake)
                total = total + share * (minus_log_sigmoid(-self.score(h, fake)) + penalty)
            return total

        return h.mean(cost)

    def formulas(self):
        return {
            ("generator", "prior"): self.prior,
            ("generator", "features"): self.features,
            ("generator", "adversarial"): self.deceive,
            ("discriminator", "adversarial"): self.judge,
        }


SCREEN = Screen(read(CONFIG), read_table(TABLE), Larsen().formulas())


@pytest.mark.parametrize("rows", [WHOLE, GAPS, ["x", "y"], ["x"]], ids=["whole", "gaps", "alternating", "one row"])
def test_larsen(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


def test_the_decoders_share_is_minus_l_gan_but_for_the_saturation() -> None:
    """d(-log D)/ds = -(1 - D) where the paper's d(log(1 - D))/ds is -D: row by row the same direction."""
    graph = build(SCREEN.config)
    h = hand(graph, batch_of(graph, ["xy"]))
    larsen, parameters = Larsen(shares={"prior": 1.0}), list(graph["dec_x"].parameters())
    score = larsen.score(h, larsen.fake(h, 0, h.row(0), "prior"))
    realness = torch.sigmoid(score.detach())
    paper = torch.autograd.grad((1 - torch.sigmoid(score)).log(), parameters, retain_graph=True)
    ours = torch.autograd.grad(larsen.deceive(h), parameters)
    for p, g in zip(paper, ours):
        torch.testing.assert_close(g, p * (1 - realness) / realness)


def test_micro_batches_add_up_to_the_step() -> None:
    graph = build(SCREEN.config)
    batch = batch_of(graph, GAPS)
    parts = [batch.take(torch.tensor(rows)) for rows in ([0, 3], [1], [2, 4, 5])]
    for player, losses in (("discriminator", ["adversarial"]), ("generator", ["prior", "features", "adversarial"])):
        compare(turn(graph, player, losses, parts), turn(graph, player, losses, [batch]), player)


RECIPE_TABLE = """
                             | enc_x enc_y post | dec_x dec_y | disc_x disc_y disc_all score
generator     reconstruction | 1                | 1           | 0
generator     kl             | .5               | 0           | 0
generator     matching       | .7               | .7          | 0
generator     adversarial    | 0                | .2          | 0
discriminator adversarial    | 0                | 0           | .2
"""


OPTIONS = {
    "posterior": "poe",
    "latent": 2,
    "components": 0,
    "game": "non_saturating",
    "width": 8,
    "beta": 0.5,
    "warmup_steps": 0,
    "matching": 0.7,
    "weight": 0.2,
    "r1": 0.1,
    "r2": 0.4,
}


def recipe(**options) -> dict[str, object]:
    return engine().recipe_config(
        "vae_gan",
        {m: {"use": "modality/toys.vector", "with": {"size": size}} for m, size in (("x", 3), ("y", 2))},
        **{**OPTIONS, **options},
    )


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_the_recipe(rows) -> None:
    shares = {"reconstruction": 0.5, "prior": 0.5}
    larsen = Larsen(activation=relu, shares=shares, layers=("x", "y"), mean=True, r1=0.1, r2=0.4)
    formulas = {
        ("generator", "reconstruction"): lambda h: larsen.reconstruction(h, {"x": 3, "y": 2}),
        ("generator", "kl"): larsen.prior,
        ("generator", "matching"): larsen.features,
        ("generator", "adversarial"): larsen.deceive,
        ("discriminator", "adversarial"): larsen.judge,
    }
    check(Screen(recipe(), read_table(RECIPE_TABLE), formulas), rows)


@pytest.mark.parametrize(("discriminator", "matched"), [("joint", {""}), ("both", {""}), ("each", {"_x", "_y"})])
def test_the_recipe_matches_the_features_of_every_modality(discriminator, matched) -> None:
    config = recipe(discriminator=discriminator)
    assert {name.removeprefix("matching") for name in config["losses"] if name.startswith("matching")} == matched
    graph = build(config)
    received = turn(graph, "generator", [f"matching{end}" for end in matched], [batch_of(graph, WHOLE)])
    assert all(received[f"dec_{m}.net.second.bias"].any() for m in ("x", "y"))
