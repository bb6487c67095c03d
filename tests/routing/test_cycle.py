"""A cycle x -> z -> y~ -> z' -> x~: a decoder feeds an encoder, and gradients pass through what it made.

What closes the cycle trains all of it; a term on its first half trains that half, a term on y~ by a discriminator the
decoder of y alone, as z is detached there; where there is no posterior in between, the encoder too.
"""

from functools import partial

import pytest
import torch
from by_hand import Hand, Row, kl, minus_log_sigmoid, nll, squared_gradient
from screen import Screen, check, check_gaps, read, read_table, subsets
from torch import Tensor

CONFIG = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  y: {use: modality/toys.vector, with: {size: 2}}
nodes:
  enc_x:  {use: encoder/toys.mlp, in: x}
  there:  {use: posterior/gaussian, in: enc_x, with: {latent: 2}}
  dec_y:  {use: decoder/toys.mlp, in: there, out: y}
  enc_y:  {use: encoder/toys.mlp, in: dec_y}
  back:   {use: posterior/gaussian, in: enc_y, with: {latent: 2}}
  dec_x:  {use: decoder/toys.mlp, in: back, out: x}
  disc_y: {use: encoder/toys.mlp, in: y}
  score:  {use: head/score, in: disc_y}
losses:
  first:   {use: loss/reconstruction, with: {nodes: [dec_y], balance: false}}
  closed:  {use: loss/reconstruction, with: {nodes: [dec_x], balance: false, weight: 2.0}}
  kl_1:    {use: loss/kl, with: {nodes: [there]}}
  kl_2:    {use: loss/kl, with: {nodes: [back], beta: 0.5}}
  game:    {use: loss/relativistic, with: {score: score, weight: 0.3, r1: 0.4, r2: 0.2, fakes: {reconstruction: 1}}}
"""

TABLE = """
                     | enc_x there | dec_y | enc_y back | dec_x | disc_y score
generator     first  | 1           | 1     | 0          | 0     | 0
generator     closed | 2           | 2     | 2          | 2     | 0
generator     kl_1   | 1           | 0     | 0          | 0     | 0
generator     kl_2   | .5          | .5    | .5         | 0     | 0
generator     game   | 0           | .3    | 0          | 0     | 0
discriminator game   | 0           | 0     | 0          | 0     | .3
"""

WHOLE, GAPS = ["xy"] * 4, [*subsets("xy"), "x", "y"]


def there(h: Hand, row: Row) -> tuple[Tensor, Tensor]:
    return h.gaussian("there", h.net("enc_x", row["x"]) if "x" in row else None)


def made_y(h: Hand, i: int, row: Row) -> Tensor:
    loc, scale = there(h, row)
    return h.net("dec_y", loc + scale * h.normal(i, 2, "posterior", "there"))


def back(h: Hand, i: int, row: Row) -> tuple[Tensor, Tensor]:
    """Inferred from y~, which stands for x: a row without x has nothing to come back from."""
    return h.gaussian("back", h.net("enc_y", made_y(h, i, row)) if "x" in row else None)


def made_x(h: Hand, i: int, row: Row) -> Tensor:
    loc, scale = back(h, i, row)
    return h.net("dec_x", loc + scale * h.normal(i, 2, "posterior", "back"))


def if_it_has(m: str, cost) -> object:
    return lambda i, row: cost(i, row) if m in row else torch.zeros(())


def score(h: Hand, row: Row) -> Tensor:
    return h.score("score", h.net("disc_y", row["y"]))


def judge(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        real, fake = {"y": row["y"]}, {"y": made_y(h, i, row)}
        penalty = 0.4 * squared_gradient(partial(score, h), real) + 0.2 * squared_gradient(partial(score, h), fake)
        return minus_log_sigmoid(score(h, real) - score(h, fake)) + penalty / 2

    return h.mean(cost, "y")


def deceive(h: Hand) -> Tensor:
    return h.mean(lambda i, row: minus_log_sigmoid(score(h, {"y": made_y(h, i, row)}) - score(h, row)), "y")


SCREEN = Screen(
    read(CONFIG),
    read_table(TABLE),
    {
        ("generator", "first"): lambda h: h.mean(if_it_has("y", lambda i, row: nll(row["y"], made_y(h, i, row)))),
        ("generator", "closed"): lambda h: h.mean(if_it_has("x", lambda i, row: nll(row["x"], made_x(h, i, row)))),
        ("generator", "kl_1"): lambda h: h.mean(lambda i, row: kl(*there(h, row))),
        ("generator", "kl_2"): lambda h: h.mean(lambda i, row: kl(*back(h, i, row))),
        ("generator", "game"): deceive,
        ("discriminator", "game"): judge,
    },
)


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_cycle(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


BARE_TABLE = """
                     | enc_x | dec_y | enc_y | dec_x | disc_y score
generator     closed | 1     | 1     | 1     | 1     | 0
generator     game   | 1     | 1     | 0     | 0     | 0
discriminator game   | 0     | 0     | 0     | 0     | 1
"""


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_without_posteriors_the_first_encoder_plays_too(rows) -> None:
    """CycleGAN's half: y~ = G(F(x)) with nothing random in it (Zhu et al., 2017, arXiv:1703.10593)."""
    config = read(CONFIG)
    nodes = config["nodes"]
    del nodes["there"], nodes["back"]
    nodes["dec_y"]["in"], nodes["dec_x"]["in"] = "enc_x", "enc_y"
    config["losses"] = {
        "closed": {"use": "loss/reconstruction", "with": {"nodes": ["dec_x"]}},
        "game": {"use": "loss/non_saturating", "with": {"score": "score"}},
    }

    def fake(h: Hand, row: Row) -> Tensor:
        return h.net("dec_y", h.net("enc_x", row["x"]) if "x" in row else torch.zeros(3, dtype=torch.float64))

    def closed(h: Hand, i: int, row: Row) -> Tensor:
        return nll(row["x"], h.net("dec_x", h.net("enc_y", fake(h, row))))

    def judged(h: Hand, i: int, row: Row) -> Tensor:
        return minus_log_sigmoid(score(h, row)) + minus_log_sigmoid(-score(h, {"y": fake(h, row)}))

    costs = {
        ("generator", "closed"): lambda h: h.mean(if_it_has("x", partial(closed, h))),
        ("generator", "game"): lambda h: h.mean(lambda i, row: minus_log_sigmoid(score(h, {"y": fake(h, row)})), "y"),
        ("discriminator", "game"): lambda h: h.mean(partial(judged, h), "y"),
    }
    check(Screen(config, read_table(BARE_TABLE), costs), rows)


MIXTURE_TABLE = """
                 | enc_x enc_w there | dec_y | enc_y back | dec_x
generator closed | 1                 | 1     | 1          | 1
"""


@pytest.mark.parametrize("rows", [["xyw"] * 4, subsets("xyw")], ids=["whole", "gaps"])
def test_a_mixture_sends_one_component_through(rows) -> None:
    """An encoder sees one signal a row: the decoder's of one component, drawn by weight."""
    config = read(CONFIG)
    config["modalities"]["w"] = {"use": "modality/toys.vector", "with": {"size": 2}}
    nodes = config["nodes"]
    nodes["enc_w"] = {"use": "encoder/toys.mlp", "in": "w"}
    nodes["there"] = {"use": "posterior/mvae", "in": ["enc_x", "enc_w"], "with": {"latent": 2}}
    del nodes["disc_y"], nodes["score"]
    config["losses"] = {"closed": {"use": "loss/reconstruction", "with": {"nodes": ["dec_x"]}}}

    def closed(h: Hand, i: int, row: Row) -> Tensor:
        vectors = [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "w")]
        if vectors == [None, None]:
            return nll(row["x"], h.net("dec_x", h.normal(i, 2, "posterior", "back")))
        found = h.products("there", vectors)
        chosen = sorted(found)[int(h.uniform(i, "component", "there") * len(found))]
        loc, scale = found[chosen]
        z = loc + scale * h.normal(i, 2, "posterior", "there", k=3)[chosen]
        loc, scale = h.gaussian("back", h.net("enc_y", h.net("dec_y", z)))
        return nll(row["x"], h.net("dec_x", loc + scale * h.normal(i, 2, "posterior", "back")))

    costs = {("generator", "closed"): lambda h: h.mean(if_it_has("x", partial(closed, h)))}
    check(Screen(config, read_table(MIXTURE_TABLE), costs), rows)
