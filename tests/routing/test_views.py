"""What discriminators see: a fake has the presence and the mask of the real row it is paired with, padding is nobody's
business, and discrete data is judged and penalised at its embedding, which learns from that.
"""

from functools import partial

import pytest
import torch
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import (
    Screen,
    batch_of,
    build,
    check,
    check_gaps,
    read,
    read_table,
    subsets,
)
from torch import Tensor

from fusion_engine import Noise, Run

RAGGED = """
modalities:
  s: {use: modality/toys.ragged, with: {length: 3}}
  x: {use: modality/toys.vector, with: {size: 2}}
nodes:
  enc_s:    {use: encoder/toys.bag, in: s}
  enc_x:    {use: encoder/toys.mlp, in: x}
  post:     {use: posterior/poe, in: [enc_s, enc_x], with: {latent: 2}}
  dec_s:    {use: decoder/toys.line, in: post, out: s}
  dec_x:    {use: decoder/toys.mlp, in: post, out: x}
  disc_s:   {use: encoder/toys.bag, in: s}
  disc_x:   {use: encoder/toys.mlp, in: x}
  disc_all: {use: fusion/concat, in: [disc_s, disc_x], with: {width: 4, activation: silu}}
  score:    {use: head/score, in: disc_all}
losses:
  game: {use: loss/non_saturating, with: {score: score, r1: 0.5, r2: 0.3, fakes: {reconstruction: 1}}}
"""

RAGGED_TABLE = """
                   | enc_s enc_x post | dec_s dec_x | disc_s disc_x disc_all score
generator     game | 0                | 1           | 0
discriminator game | 0                | 0           | 1
"""

WHOLE, GAPS = ["sx"] * 6, [*subsets("sx"), "s", "sx", "s", "x"]


def bag(h: Hand, node: str, s: Tensor) -> Tensor:
    """The mean over the places that a row has."""
    return sum((h.net(node, value) for value in s), torch.zeros(())) / len(s)


def encode(h: Hand, role: str, row: Row) -> list[Tensor | None]:
    s = bag(h, f"{role}_s", row["s"]) if "s" in row else None
    return [s, h.net(f"{role}_x", row["x"]) if "x" in row else None]


def reconstruct(h: Hand, i: int, row: Row) -> Row:
    """As many places as the row has."""
    loc, scale = h.product("post", encode(h, "enc", row))
    z = loc + scale * h.normal(i, 2, "posterior", "post")
    s = {"s": h.net("dec_s", z)[: len(row["s"]), None]} if "s" in row else {}
    return s | ({"x": h.net("dec_x", z)} if "x" in row else {})


def score(h: Hand, row: Row) -> Tensor:
    return h.score("score", h.concat("disc_all", encode(h, "disc", row)))


def judge(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        fake = reconstruct(h, i, row)
        penalty = 0.5 * squared_gradient(partial(score, h), row) + 0.3 * squared_gradient(partial(score, h), fake)
        return minus_log_sigmoid(score(h, row)) + minus_log_sigmoid(-score(h, fake)) + penalty / 2

    return h.mean(cost)


def deceive(h: Hand) -> Tensor:
    return h.mean(lambda i, row: minus_log_sigmoid(score(h, reconstruct(h, i, row))))


SCREEN = Screen(
    read(RAGGED), read_table(RAGGED_TABLE), {("generator", "game"): deceive, ("discriminator", "game"): judge}
)


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_padding_is_nobodys_business(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("source", ["prior", "reconstruction"])
def test_a_fake_cannot_be_told_by_its_mask(source, player) -> None:
    graph = build(SCREEN.config)
    run = Run(graph, batch_of(graph, GAPS), noise=Noise.of(len(GAPS)), player=player, sample=True)
    real, fake = run.real(), run.fake(source)
    for name in (*graph.modalities, *graph.wiring.nodes):
        assert torch.equal(real.present(name), fake.present(name)), name
    present = run.batch.present["s"]
    assert torch.equal(real["s"].mask[present], fake["s"].mask[present])
    for name in ("disc_s", "disc_x", "disc_all"):
        assert torch.equal(real.features(name).mask, fake.features(name).mask), name
        assert not torch.equal(real.features(name).pooled, fake.features(name).pooled), name
    nothing = GAPS.index("")
    assert real.score("score")[nothing] == fake.score("score")[nothing]
    assert torch.isfinite(fake["s"].data).all()


LABELLED = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  l: {use: modality/category, with: {classes: [0, 1, 2]}}
nodes:
  noise:    {use: prior/normal, with: {latent: 2}}
  dec_x:    {use: decoder/toys.mlp, in: noise, out: x}
  dec_l:    {use: decoder/tabular.logits, in: noise, out: l, with: {width: 4}}
  disc_x:   {use: encoder/toys.mlp, in: x}
  disc_l:   {use: encoder/tabular.embedding, in: l, with: {width: 3}}
  disc_all: {use: fusion/concat, in: [disc_x, disc_l], with: {width: 4, activation: silu}}
  score:    {use: head/score, in: disc_all}
losses:
  game: {use: loss/relativistic, with: {score: score, r1: 0.5, r2: 0.3, decay: 1.0}}
"""

LABELLED_TABLE = """
                   | dec_x dec_l | disc_x disc_l disc_all score
generator     game | 1           | 0
discriminator game | 0           | 1
"""


class Labelled:
    """D on a vector and on the embedding of a label: one-hots by Gumbel's trick, with the gradient of their softmax."""

    def one_hot(self, h: Hand, i: int, z: Tensor) -> Tensor:
        hidden = torch.nn.functional.leaky_relu(h.linear("dec_l", "body.0", z), 0.2)
        logits = h.linear("dec_l", "body.2", hidden)
        uniform = h.noise.at("generated", "prior", "relax", "dec_l").uniform(3)[i].double().clamp(1e-6, 1 - 1e-6)
        soft = torch.softmax(logits - (-uniform.log()).log(), 0)
        return torch.eye(3, dtype=soft.dtype)[soft.argmax()] + soft - soft.detach()

    def real(self, h: Hand, row: Row) -> Row:
        """What D sees of a row: the label as its vector."""
        return {m: h.weight("disc_l", "weight")[x] if m == "l" else x for m, x in row.items()}

    def fake(self, h: Hand, i: int, row: Row) -> Row:
        z = h.normal(i, 2, "prior", "noise")
        made = {"x": h.net("dec_x", z)} if "x" in row else {}
        if "l" in row:
            made["l"] = self.one_hot(h, i, z) @ h.weight("disc_l", "weight")
        return made

    def score(self, h: Hand, seen: Row) -> Tensor:
        vectors = [h.net("disc_x", seen["x"]) if "x" in seen else None, seen.get("l")]
        return h.score("score", h.concat("disc_all", vectors))

    def squared(self, h: Hand, seen: Row) -> Tensor:
        """The embedding's vectors stay attached: the penalty is differentiated through them as through the rest."""
        seen = {m: v if v.requires_grad and m == "l" else v.detach().requires_grad_() for m, v in seen.items()}
        found = torch.autograd.grad(self.score(h, seen), list(seen.values()), create_graph=True)
        return sum(((g**2).sum() for g in found), torch.zeros(()))

    def generator(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            return minus_log_sigmoid(self.score(h, self.fake(h, i, row)) - self.score(h, self.real(h, row)))

        return h.mean(cost)

    def discriminator(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            real, fake = self.real(h, row), self.fake(h, i, row)
            penalty = 0.5 * self.squared(h, real) + 0.3 * self.squared(h, fake)
            return minus_log_sigmoid(self.score(h, real) - self.score(h, fake)) + penalty / 2

        return h.mean(cost)


LABELS = Screen(
    read(LABELLED),
    read_table(LABELLED_TABLE),
    {("generator", "game"): Labelled().generator, ("discriminator", "game"): Labelled().discriminator},
)


@pytest.mark.parametrize("rows", [["xl"] * 6, [*subsets("xl"), "l", "xl"]], ids=["whole", "gaps"])
def test_an_embedding_learns_from_the_scores_that_are_penalised(rows) -> None:
    check(LABELS, rows)
