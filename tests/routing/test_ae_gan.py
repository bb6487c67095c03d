"""An auto-encoder whose encoder is also the discriminator's: both players own it, and each trains it in its own turn.

generator's turn      the encoder learns to infer; in what the discriminator sees it is a constant
discriminator's turn  the encoder learns to judge, on data that no gradient leaves
"""

from functools import partial

import pytest
import torch
from by_hand import Hand, Row, kl, minus_log_sigmoid, nll, squared_gradient
from screen import Screen, build, check, check_gaps, read, read_table, subsets
from torch import Tensor

CONFIG = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  y: {use: modality/toys.vector, with: {size: 2}}
nodes:
  enc_x: {use: encoder/toys.mlp, in: x}
  enc_y: {use: encoder/toys.mlp, in: y}
  post:  {use: posterior/poe, in: [enc_x, enc_y], with: {latent: 2}}
  dec_x: {use: decoder/toys.mlp, in: post, out: x}
  dec_y: {use: decoder/toys.mlp, in: post, out: y}
  all:   {use: fusion/concat, in: [enc_x, enc_y], with: {width: 4, activation: silu}}
  score: {use: head/score, in: all}
losses:
  reconstruction: {use: loss/reconstruction, with: {balance: false}}
  prior:          {use: loss/kl, with: {beta: 0.5}}
  features:       {use: loss/feature_matching, with: {score: score, weight: 0.7, mean: false}}
  adversarial:
    use: loss/non_saturating
    with: {score: score, weight: 0.2, r1: 0.5, r2: 0.3, fakes: {reconstruction: 1, prior: 1}}
"""

TABLE = """
                             | enc_x enc_y | post | dec_x dec_y | all score
generator     reconstruction | 1           | 1    | 1           | 0
generator     prior          | .5          | .5   | 0           | 0
generator     features       | .7          | .7   | .7          | 0
generator     adversarial    | 0           | 0    | .2          | 0
discriminator adversarial    | .2          | 0    | 0           | .2
"""

WHOLE, GAPS = ["xy"] * 4, [*subsets("xy"), "x"]


def posterior(h: Hand, row: Row) -> tuple[Tensor, Tensor]:
    return h.product("post", [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "y")])


def latent(h: Hand, i: int, row: Row, source: str) -> Tensor:
    if source == "prior":
        return h.normal(i, 2, "start", "prior", "post")
    loc, scale = posterior(h, row)
    return loc + scale * h.normal(i, 2, "posterior", "post")


def decode(h: Hand, z: Tensor, row: Row) -> Row:
    return {m: h.net(f"dec_{m}", z) for m in row}


def score(h: Hand, row: Row) -> Tensor:
    vectors = [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "y")]
    return h.score("score", h.concat("all", vectors))


def reconstruction(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        made = decode(h, latent(h, i, row, "reconstruction"), row)
        return sum((nll(x, made[m]) for m, x in row.items()), torch.zeros(()))

    return h.mean(cost)


def features(h: Hand) -> Tensor:
    """The encoder is the similarity's yardstick, a constant, and makes z, where it learns."""

    def cost(i: int, row: Row) -> Tensor:
        made, fixed = decode(h, latent(h, i, row, "reconstruction"), row), h.hold()
        differences = [fixed.net(f"enc_{m}", x) - fixed.net(f"enc_{m}", made[m]) for m, x in row.items()]
        return sum(((d**2).sum() / 2 for d in differences), torch.zeros(()))

    return h.mean(cost)


def deceive(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        fakes = [decode(h, latent(h, i, row, source).detach(), row) for source in ("reconstruction", "prior")]
        return sum((minus_log_sigmoid(score(h, fake)) / 2 for fake in fakes), torch.zeros(()))

    return h.mean(cost)


def judge(h: Hand) -> Tensor:
    """Fakes are data: the encoder learns nothing from how they came about."""

    def cost(i: int, row: Row) -> Tensor:
        total = minus_log_sigmoid(score(h, row)) + 0.5 / 2 * squared_gradient(partial(score, h), row)
        for source in ("reconstruction", "prior"):
            fake = {m: x.detach() for m, x in decode(h, latent(h, i, row, source), row).items()}
            penalty = 0.3 / 2 * squared_gradient(partial(score, h), fake)
            total = total + (minus_log_sigmoid(-score(h, fake)) + penalty) / 2
        return total

    return h.mean(cost)


SCREEN = Screen(
    read(CONFIG),
    read_table(TABLE),
    {
        ("generator", "reconstruction"): reconstruction,
        ("generator", "prior"): lambda h: h.mean(lambda i, row: kl(*posterior(h, row))),
        ("generator", "features"): features,
        ("generator", "adversarial"): deceive,
        ("discriminator", "adversarial"): judge,
    },
)


def test_the_encoder_belongs_to_both() -> None:
    graph = build(SCREEN.config)
    assert graph.wiring.shared == {"enc_x", "enc_y"}
    assert graph.owners("discriminator") == {"enc_x", "enc_y", "all", "score"}
    assert graph.owners("generator") == {"enc_x", "enc_y", "post", "dec_x", "dec_y"}


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_ae_gan(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


INFERS_TABLE = """
                          | enc_x enc_y | post | dec_x dec_y | all score
generator     adversarial | 1           | 1    | 1           | 0
discriminator adversarial | 1           | 0    | 0           | 1
"""


@pytest.mark.parametrize("penalty", [0.0, 0.5])
@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_with_the_latent_beside_the_data(rows, penalty) -> None:
    """D(x, E(x)) with D on E's own features: E is fixed where it judges, and z is data to D, penalised or not."""
    config = read(CONFIG)
    config["nodes"]["all"]["in"] = ["enc_x", "enc_y", "post"]
    options = {"score": "score", "r1": penalty, "r2": penalty}
    config["losses"] = {"adversarial": {"use": "loss/non_saturating", "with": options}}

    def real(h: Hand, i: int, row: Row) -> Row:
        return {**row, "z": latent(h, i, row, "reconstruction")}

    def fake(h: Hand, i: int, row: Row) -> Row:
        z = latent(h, i, row, "prior")
        return {**decode(h, z, row), "z": z}

    def judged(h: Hand, seen: Row) -> Tensor:
        vectors = [h.net(f"enc_{m}", seen[m]) if m in seen else None for m in ("x", "y")]
        return h.score("score", h.concat("all", [*vectors, seen["z"]]))

    def generator(h: Hand) -> Tensor:
        fixed = h.hold()
        return h.mean(
            lambda i, row: (
                minus_log_sigmoid(-judged(fixed, real(h, i, row))) + minus_log_sigmoid(judged(fixed, fake(h, i, row)))
            )
        )

    def discriminator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            seen = [{m: x.detach() for m, x in made(h, i, row).items()} for made in (real, fake)]
            squares = sum((squared_gradient(partial(judged, h), s) for s in seen), torch.zeros(()))
            scores = [judged(h, s) for s in seen]
            return minus_log_sigmoid(scores[0]) + minus_log_sigmoid(-scores[1]) + penalty / 2 * squares

        return h.mean(cost)

    costs = {("generator", "adversarial"): generator, ("discriminator", "adversarial"): discriminator}
    check(Screen(config, read_table(INFERS_TABLE), costs), rows)


BARE = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  y: {use: modality/toys.vector, with: {size: 2}}
nodes:
  enc_x: {use: encoder/toys.mlp, in: x}
  enc_y: {use: encoder/toys.mlp, in: y}
  all:   {use: fusion/concat, in: [enc_x, enc_y], with: {width: 4, activation: silu}}
  dec_x: {use: decoder/toys.mlp, in: all, out: x}
  dec_y: {use: decoder/toys.mlp, in: all, out: y}
  score: {use: head/score, in: all}
losses:
  adversarial: {use: loss/non_saturating, with: {score: score}}
"""

BARE_TABLE = """
                          | enc_x enc_y all | dec_x dec_y | score
generator     adversarial | 1               | 1           | 0
discriminator adversarial | 1               | 0           | 1
"""


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_without_a_posterior(rows) -> None:
    """No z to cut: the encoder learns to deceive itself as the maker of x~, and to see through it as its judge."""

    def code(h: Hand, row: Row) -> Tensor:
        return h.concat("all", [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "y")])

    def made(h: Hand, row: Row) -> Row:
        return {m: h.net(f"dec_{m}", code(h, row)) for m in row}

    def judged(h: Hand, row: Row) -> Tensor:
        return h.score("score", code(h, row))

    def discriminator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            fake = {m: x.detach() for m, x in made(h, row).items()}
            return minus_log_sigmoid(judged(h, row)) + minus_log_sigmoid(-judged(h, fake))

        return h.mean(cost)

    costs = {
        ("generator", "adversarial"): lambda h: h.mean(
            lambda i, row: minus_log_sigmoid(judged(h.hold(), made(h, row)))
        ),
        ("discriminator", "adversarial"): discriminator,
    }
    graph = build(read(BARE))
    assert graph.wiring.shared == {"enc_x", "enc_y", "all"}
    check(Screen(read(BARE), read_table(BARE_TABLE), costs), rows)
