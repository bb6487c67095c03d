"""BiGAN and ALI: Donahue et al. and Dumoulin et al., 2017, arXiv:1605.09782 and 1606.00704.

min over E, G   -log(1 - D(x, E(x))) - log D(G(z), z)
min over D      -log D(x, E(x)) - log(1 - D(G(z), z)) + penalties at (x, z) of both
"""

from collections.abc import Callable
from functools import partial

import pytest
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import Screen, check, check_gaps, engine, read, read_table, subsets
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
  disc_all: {use: fusion/concat, in: [disc_x, disc_y, post], with: {width: 4, activation: silu}}
  score:    {use: head/score, in: disc_all}
losses:
  game: {use: loss/non_saturating, with: {score: score, weight: 0.6, r1: 0.5, r2: 0.3}}
"""

TABLE = """
                   | enc_x enc_y post | dec_x dec_y | disc_x disc_y disc_all score
generator     game | .6               | .6          | 0
discriminator game | 0                | 0           | .6
"""

Cost = Callable[[Tensor, Tensor], Tensor]
Activation = Callable[[Tensor], Tensor]
WHOLE, GAPS = ["xy"] * 4, [*subsets("xy"), "y"]


def real(h: Hand, i: int, row: Row) -> Row:
    """(x, E(x)); where posteriors are mixtures, E(x) is one component, drawn by weight."""
    if type(h.graph["post"]).__name__ == "MVAEPosterior":
        return {**row, "z": one_of_several(h, i, row)}
    loc, scale = h.product("post", [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "y")])
    return {**row, "z": loc + scale * h.normal(i, 2, "posterior", "post")}


def one_of_several(h: Hand, i: int, row: Row) -> Tensor:
    found = h.products("post", [h.net(f"enc_{m}", row[m]) if m in row else None for m in ("x", "y")])
    chosen = sorted(found)[int(h.uniform(i, "component", "post") * len(found))]
    loc, scale = found[chosen]
    return loc + scale * h.normal(i, 2, "posterior", "post", k=3)[chosen]


def fake(h: Hand, i: int, row: Row) -> Row:
    """(G(z), z)."""
    z = h.normal(i, 2, "start", "prior", "post")
    return {**{m: h.net(f"dec_{m}", z) for m in row}, "z": z}


def score(h: Hand, seen: Row, activation: Activation = silu) -> Tensor:
    vectors = [h.net(f"disc_{m}", seen[m]) if m in seen else None for m in ("x", "y")]
    return h.score("score", h.concat("disc_all", [*vectors, seen["z"]], activation))


def formulas(deceive: Cost, judge: Cost, loss: str = "game", activation: Activation = silu):
    """Both players' costs of (D(x, E(x)), D(G(z), z))."""
    d = partial(score, activation=activation)

    def generator(h: Hand) -> Tensor:
        return h.mean(lambda i, row: deceive(d(h, real(h, i, row)), d(h, fake(h, i, row))))

    def discriminator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            x, g = real(h, i, row), fake(h, i, row)
            penalty = 0.5 * squared_gradient(partial(d, h), x) + 0.3 * squared_gradient(partial(d, h), g)
            return judge(d(h, x), d(h, g)) + penalty / 2

        return h.mean(cost)

    return {("generator", loss): generator, ("discriminator", loss): discriminator}


GAME = formulas(
    lambda real, fake: minus_log_sigmoid(-real) + minus_log_sigmoid(fake),
    lambda real, fake: minus_log_sigmoid(real) + minus_log_sigmoid(-fake),
)
PAIRS = formulas(
    lambda real, fake: minus_log_sigmoid(fake - real),
    lambda real, fake: minus_log_sigmoid(real - fake),
)
SCREEN = Screen(read(CONFIG), read_table(TABLE), GAME)


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_bigan(rows) -> None:
    check(SCREEN, rows)


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_relativistic(rows) -> None:
    """The pair itself is what both halves of the generator push."""
    config = read(CONFIG)
    game = config["losses"]["game"]
    config["losses"] = {"game": {"use": "loss/relativistic", "with": {**game["with"], "decay": 1.0}}}
    check(Screen(config, SCREEN.table, PAIRS), rows)


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_a_mixture_shows_the_discriminator_one_component(rows) -> None:
    config = read(CONFIG)
    config["nodes"]["post"]["use"] = "posterior/mvae"
    check(Screen(config, SCREEN.table, SCREEN.formulas), rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


RECIPE_TABLE = """
                          | enc_x enc_y post | dec_x dec_y | disc_x disc_y disc_all score
generator     adversarial | 1                | 1           | 0
discriminator adversarial | 0                | 0           | 1
"""


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
@pytest.mark.parametrize("posterior", ["poe", "mvae"])
def test_the_recipe(posterior, rows) -> None:
    sizes = {"x": 3, "y": 2}
    modalities = {m: {"use": "modality/toys.vector", "with": {"size": size}} for m, size in sizes.items()}
    options = {"posterior": posterior, "latent": 2, "width": 8, "r1": 0.5, "r2": 0.3, "game": "non_saturating"}
    config = engine().recipe_config("bigan", modalities, **options)
    costs = formulas(
        lambda real, fake: minus_log_sigmoid(-real) + minus_log_sigmoid(fake),
        lambda real, fake: minus_log_sigmoid(real) + minus_log_sigmoid(-fake),
        "adversarial",
        relu,
    )
    check(Screen(config, read_table(RECIPE_TABLE), costs), rows)
