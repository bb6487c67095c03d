"""Adversarial auto-encoder: Makhzani et al., 2016, arXiv:1511.05644. The discriminator sees codes alone.

    encoder   <- reconstruction, and D's mistake on its codes
    decoder   <- reconstruction, never the adversarial loss
    D         <- codes of the encoder against draws of the prior

"Real" is here what is inferred and "fake" what the prior gives; the paper names them the other way round, and D's sign
with them: its games are symmetric.
"""

import pytest
import torch
from by_hand import Hand, Row, minus_log_sigmoid, nll, squared_gradient
from screen import Screen, check, check_gaps, engine, read, read_table, subsets
from torch import Tensor
from torch.nn.functional import relu

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
  disc:  {use: fusion/concat, in: post, with: {width: 4, activation: silu}}
  score: {use: head/score, in: disc}
losses:
  reconstruction: {use: loss/reconstruction, with: {weights: {y: 0.5}}}
  codes:          {use: loss/non_saturating, with: {score: score, weight: 0.4, r1: 0.5, r2: 0.3}}
"""

TABLE = """
                             | enc_x enc_y post | dec_x dec_y | disc score
generator     reconstruction | 1                | 1           | 0
generator     codes          | .4               | 0           | 0
discriminator codes          | 0                | 0           | .4
"""

WHOLE, GAPS = ["xy"] * 4, [*subsets("xy"), "x"]
BALANCE = {"x": 1.0, "y": 0.5 * 3 / 2}


def code(h: Hand, i: int, row: Row) -> Tensor:
    loc, scale = h.product("post", [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "y")])
    return loc + scale * h.normal(i, 2, "posterior", "post")


def draw(h: Hand, i: int) -> Tensor:
    return h.normal(i, 2, "start", "prior", "post")


def realness(h: Hand, z: Tensor) -> Tensor:
    """The paper's D: high for the prior's draws."""
    return -h.score("score", h.concat("disc", [z]))


def reconstruction(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        z = code(h, i, row)
        return sum((BALANCE[m] * nll(x, h.net(f"dec_{m}", z)) for m, x in row.items()), torch.zeros(()))

    return h.mean(cost)


def judge(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        inferred, drawn = code(h, i, row), draw(h, i)
        penalties = [squared_gradient(lambda seen: realness(h, seen["z"]), {"z": z}) for z in (inferred, drawn)]
        scores = minus_log_sigmoid(realness(h, drawn)) + minus_log_sigmoid(-realness(h, inferred))
        return scores + (0.5 * penalties[0] + 0.3 * penalties[1]) / 2

    return h.mean(cost)


FORMULAS = {
    ("generator", "reconstruction"): reconstruction,
    ("generator", "codes"): lambda h: h.mean(lambda i, row: minus_log_sigmoid(realness(h, code(h, i, row)))),
    ("discriminator", "codes"): judge,
}
SCREEN = Screen(read(CONFIG), read_table(TABLE), FORMULAS)


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_aae(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


DECODER_JUDGES = """
                      | enc_x enc_y post | dec_y | dec_x seen score
generator     codes   | 1                | 0     | 0
discriminator codes   | 0                | 0     | 1
"""


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
@pytest.mark.parametrize("both", [False, True], ids=["its alone", "of both players"])
@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_a_decoder_given_to_the_discriminator(both, penalty, rows) -> None:
    """The encoder plays the generator and the decoder judges its codes: D(z) = score(seen(dec_x(z)))."""
    config = read(CONFIG)
    for name in ("disc", "score"):
        del config["nodes"][name]
    config["nodes"]["seen"] = {"use": "encoder/toys.mlp", "in": "dec_x"}
    config["nodes"]["score"] = {"use": "head/score", "in": "seen"}
    options = {"score": "score", "r1": penalty, "r2": penalty}
    config["losses"] = {"codes": {"use": "loss/non_saturating", "with": options}}
    config["players"] = {"discriminator": ["dec_x", "seen", "score"]}
    if not both:
        config["players"]["generator"] = ["enc_*", "post", "dec_y"]

    def fooled(h: Hand, z: Tensor) -> Tensor:
        return -h.score("score", h.net("seen", h.net("dec_x", z)))

    def discriminator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            codes = code(h, i, row).detach(), draw(h, i)
            squares = [squared_gradient(lambda seen: fooled(h, seen["z"]), {"z": z}) for z in codes]
            scores = minus_log_sigmoid(-fooled(h, codes[0])) + minus_log_sigmoid(fooled(h, codes[1]))
            return scores + penalty / 2 * sum(squares, torch.zeros(()))

        return h.mean(cost)

    costs = {
        ("generator", "codes"): lambda h: h.mean(lambda i, row: minus_log_sigmoid(fooled(h, code(h, i, row)))),
        ("discriminator", "codes"): discriminator,
    }
    check(Screen(config, read_table(DECODER_JUDGES), costs), rows)


RECIPE_TABLE = """
                             | enc_x enc_y post | dec_x dec_y | code_disc code_score
generator     reconstruction | 1                | 1           | 0
generator     codes          | .4               | 0           | 0
discriminator codes          | 0                | 0           | .4
"""
RECIPE = {"posterior": "poe", "latent": 2, "width": 4, "game": "non_saturating", "weight": 0.4, "r1": 0.5, "r2": 0.3}


def recipe(**options) -> dict[str, object]:
    sizes = {"x": 3, "y": 2}
    modalities = {m: {"use": "modality/toys.vector", "with": {"size": size}} for m, size in sizes.items()}
    return engine().recipe_config("aae", modalities, **{**RECIPE, **options})


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
@pytest.mark.parametrize("private", [None, {"y": 1}], ids=["shared", "private"])
def test_the_recipe(private, rows) -> None:
    """Private latents stand beside the shared one in front of the discriminator; a row that lacks y lacks its style."""
    width = (private or {}).get("y", 0)

    def inferred(h: Hand, i: int, row: Row) -> Row:
        if not private:
            return {"post": code(h, i, row)}
        loc, scale = h.gaussian("style_y", h.net("enc_y", row["y"]) if "y" in row else None)
        return {"post": code(h, i, row), "style_y": loc + scale * h.normal(i, width, "posterior", "style_y")}

    def drawn(h: Hand, i: int) -> Row:
        starts = {"post": 2, **({"style_y": width} if private else {})}
        return {p: h.normal(i, size, "start", "prior", p) for p, size in starts.items()}

    def real(h: Hand, row: Row, codes: Row) -> Tensor:
        """The paper's D."""
        style = [codes["style_y"] if "y" in row else None] if private else []
        return -h.score("code_score", h.concat("code_disc", [codes["post"], *style], relu))

    def reconstruct(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            z = inferred(h, i, row)
            own = {"x": [z["post"]], "y": list(z.values())}
            costs = [(1 if m == "x" else 3 / 2) * nll(x, h.net(f"dec_{m}", *own[m])) for m, x in row.items()]
            return sum(costs, torch.zeros(()))

        return h.mean(cost)

    def deceive(h: Hand) -> Tensor:
        return h.mean(lambda i, row: minus_log_sigmoid(real(h, row, inferred(h, i, row))))

    def judging(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            codes, draws = inferred(h, i, row), drawn(h, i)
            squares = [squared_gradient(lambda seen: real(h, row, seen), _seen(z, row)) for z in (codes, draws)]
            scores = minus_log_sigmoid(real(h, row, draws)) + minus_log_sigmoid(-real(h, row, codes))
            return scores + (0.5 * squares[0] + 0.3 * squares[1]) / 2

        return h.mean(cost)

    nodes = "enc_x enc_y post" + (" style_y" if private else "")
    table = read_table(RECIPE_TABLE.replace("enc_x enc_y post", nodes))
    costs = {
        ("generator", "reconstruction"): reconstruct,
        ("generator", "codes"): deceive,
        ("discriminator", "codes"): judging,
    }
    check(Screen(recipe(private=private), table, costs), rows)


def _seen(codes: Row, row: Row) -> Row:
    return {p: z for p, z in codes.items() if p == "post" or "y" in row}
