"""The AE-GAN's score, w head(trunk(x)) - (1 - w) |x - dec(enc(x))|^2, and IntroVAE's terms: who receives what.

In the discriminator's turn the encoder learns from both parts of the score, the decoder within the error is a constant.
In the generator's turn all that judges is constant, and the decoder learns as the maker of x~ alone.
"""

from functools import partial
from typing import Any

import pytest
import test_ae_gan
import torch
from by_hand import Hand, Row, kl, minus_log_sigmoid, squared_gradient
from screen import Screen, build, check, check_gaps, read, read_table, subsets
from test_ae_gan import decode, latent, posterior
from torch import Tensor

from fusion_engine import BuildError

SHARE = 0.7
OPTIONS = {"score": "score", "weight": 0.2, "head_share": SHARE, "r1": 0.5, "r2": 0.3, "decay": 1.0}
SOURCES = ("reconstruction", "prior")


def config(game: str) -> dict[str, Any]:
    found = read(test_ae_gan.CONFIG)
    fakes = {"reconstruction": 1, "prior": 1}
    found["losses"] = {"adversarial": {"use": "loss/autoencoding", "with": {**OPTIONS, "game": game, "fakes": fakes}}}
    return found


TABLE = """
                             | enc_x enc_y | post | dec_x dec_y | all score
generator     adversarial    | 0           | 0    | .2          | 0
discriminator adversarial    | .2          | 0    | 0           | .2
"""
WHOLE, GAPS = ["xy"] * 4, [*subsets("xy"), "x"]


def error(h: Hand, i: int, seen: Row, label: tuple[object, ...]) -> Tensor:
    """How far a row is from dec(enc(row)), z drawn anew."""
    loc, scale = posterior(h, seen)
    z = loc + scale * h.normal(i, 2, *label, "again", "posterior", "post")
    return sum((((x - h.net(f"dec_{m}", z)) ** 2).mean() for m, x in seen.items()), torch.zeros(()))


def score(h: Hand, i: int, seen: Row, label: tuple[object, ...] = ()) -> Tensor:
    return SHARE * test_ae_gan.score(h, seen) - (1 - SHARE) * error(h, i, seen, label)


def penalty(h: Hand, seen: Row) -> Tensor:
    return SHARE**2 * squared_gradient(partial(test_ae_gan.score, h), seen)


def fake_label(source: str) -> tuple[object, ...]:
    return ("generated", source, "fake")


def judge(pairs: bool, h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        real = score(h, i, row)
        total = 0.5 / 2 * penalty(h, row)
        for source in SOURCES:
            fake = {m: x.detach() for m, x in decode(h, latent(h, i, row, source), row).items()}
            made = score(h, i, fake, fake_label(source))
            lost = minus_log_sigmoid(real - made) if pairs else minus_log_sigmoid(real) + minus_log_sigmoid(-made)
            total = total + (lost + 0.3 / 2 * penalty(h, fake)) / 2
        return total

    return h.mean(cost)


def deceive(pairs: bool, h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        fixed, total = h.hold(), torch.zeros(())
        for source in SOURCES:
            fake = decode(h, latent(h, i, row, source).detach(), row)
            made = score(fixed, i, fake, fake_label(source))
            total = total + minus_log_sigmoid(made - score(fixed, i, row) if pairs else made) / 2
        return total

    return h.mean(cost)


def screen(game: str) -> Screen:
    pairs = game == "relativistic"
    formulas = {
        ("generator", "adversarial"): partial(deceive, pairs),
        ("discriminator", "adversarial"): partial(judge, pairs),
    }
    return Screen(config(game), read_table(TABLE), formulas)


@pytest.mark.parametrize("game", ["non_saturating", "relativistic"])
@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_score_less_error(rows, game) -> None:
    check(screen(game), rows)


def test_gaps_hold_anything() -> None:
    check_gaps(screen("relativistic"), GAPS)


def test_without_an_auto_encoder_there_is_no_error() -> None:
    lone = config("hinge")
    lone["losses"]["adversarial"]["with"]["fakes"] = {"prior": 1}
    lone["nodes"] = {
        **{n: c for n, c in lone["nodes"].items() if n != "post"},
        "noise": {"use": "prior/normal", "with": {"latent": 2}},
    }
    for m in ("x", "y"):
        lone["nodes"][f"dec_{m}"]["in"] = "noise"
    with pytest.raises(BuildError, match="no error to judge by"):
        build(lone)


MARGIN = 3.0
INTROSPECTIVE = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  y: {use: modality/toys.vector, with: {size: 2}}
nodes:
  enc_x: {use: encoder/toys.mlp, in: x}
  enc_y: {use: encoder/toys.mlp, in: y}
  post:  {use: posterior/poe, in: [enc_x, enc_y], with: {latent: 2}}
  dec_x: {use: decoder/toys.mlp, in: post, out: x}
  dec_y: {use: decoder/toys.mlp, in: post, out: y}
losses:
  intro: {use: loss/introspective, with: {weight: 0.4, margin: 3.0}}
players: {discriminator: [enc_*, post]}
"""
INTRO_TABLE = """
                    | enc_x enc_y post | dec_x dec_y
generator     intro | 0                | .4
discriminator intro | .4               | 0
"""


def divergences(h: Hand, judges: Hand, i: int, row: Row) -> list[Tensor]:
    fakes = [decode(h, latent(h, i, row, source).detach(), row) for source in SOURCES]
    return [kl(*posterior(judges, fake)) for fake in fakes]


def introspect(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        fakes = [{m: x.detach() for m, x in decode(h, latent(h, i, row, s), row).items()} for s in SOURCES]
        return sum(((MARGIN - kl(*posterior(h, fake))).clamp(min=0) for fake in fakes), torch.zeros(()))

    return h.mean(cost)


def please(h: Hand) -> Tensor:
    return h.mean(lambda i, row: sum(divergences(h, h.hold(), i, row), torch.zeros(())))


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_introspection(rows) -> None:
    costs = {("generator", "intro"): please, ("discriminator", "intro"): introspect}
    check(Screen(read(INTROSPECTIVE), read_table(INTRO_TABLE), costs), rows)


def test_introspection_needs_a_judge() -> None:
    alone = read(INTROSPECTIVE)
    del alone["players"]
    with pytest.raises(BuildError, match="owns nothing that infers"):
        build(alone)
