"""A GAN from noise, given another modality: Goodfellow et al. 2014 (section 3, the non-saturating cost), and the
relativistic pairing with R1 and R2 of Huang et al. 2024, arXiv:2501.05441, eq. 2 and 4.

    decoders, the condition's encoder  <- the generator's cost
    discriminator                      <- its own cost + gamma / 2 (||grad D(x)||^2 + ||grad D(x~)||^2)

The discriminator sees the real condition beside what is generated from it.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial

import pytest
import torch
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import Screen, batch_of, build, check, check_gaps, engine, hand, read, read_table, subsets, turn
from torch import Tensor
from torch.nn.functional import relu, silu

from fusion_engine import Clock

CONFIG = """
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  y: {use: modality/toys.vector, with: {size: 2}}
  c: {use: modality/toys.vector, with: {size: 2}}
nodes:
  given:    {use: encoder/toys.mlp, in: c}
  noise:    {use: prior/normal, with: {latent: 2}}
  dec_x:    {use: decoder/toys.mlp, in: {z: noise, given: given}, out: x}
  dec_y:    {use: decoder/toys.mlp, in: {z: noise, given: given}, out: y}
  disc_x:   {use: encoder/toys.mlp, in: x}
  disc_y:   {use: encoder/toys.mlp, in: y}
  disc_c:   {use: encoder/toys.mlp, in: c}
  disc_all: {use: fusion/concat, in: [disc_x, disc_y, disc_c], with: {width: 4, activation: silu}}
  score:    {use: head/score, in: disc_all}
"""

TABLE = """
                   | given dec_x dec_y | disc_x disc_y disc_c disc_all score
generator     game | .8                | 0
discriminator game | 0                 | .8
"""

OPTIONS = {"score": "score", "weight": 0.8, "r1": 0.5, "r2": 0.3, "decay": 10.0}
WHOLE, GAPS = ["xyc"] * 4, subsets("xyc")
Cost = Callable[[Tensor, Tensor], Tensor]
Condition = Callable[[Hand, Row], Tensor]
Activation = Callable[[Tensor], Tensor]


def zeros_if_missing(h: Hand, row: Row) -> Tensor:
    return h.net("given", row["c"]) if "c" in row else torch.zeros(3, dtype=torch.float64)


def generate(h: Hand, i: int, row: Row, condition: Condition) -> Row:
    """x~ and y~ from noise and the condition; what the row lacks is not made, and c stays real."""
    z = h.normal(i, 2, "prior", "noise")
    return {**row, **{m: h.net(f"dec_{m}", z, condition(h, row)) for m in ("x", "y") if m in row}}


def score(h: Hand, row: Row, activation: Activation = silu) -> Tensor:
    vectors = [h.net(f"disc_{m}", row[m]) if m in row else None for m in ("x", "y", "c")]
    return h.score("score", h.concat("disc_all", vectors, activation))


def formulas(
    deceive: Cost,
    judge: Cost,
    decay: float = 1.0,
    activation: Activation = silu,
    condition: Condition = zeros_if_missing,
):
    """Both players' costs of (D(x), D(x~)); decay divides the penalties."""
    d, made = partial(score, activation=activation), partial(generate, condition=condition)

    def generator(h: Hand) -> Tensor:
        return h.mean(lambda i, row: deceive(d(h, row), d(h, made(h, i, row))))

    def discriminator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            fake = made(h, i, row)
            r1, r2 = squared_gradient(partial(d, h), row), squared_gradient(partial(d, h), fake)
            return judge(d(h, row), d(h, fake)) + (0.5 * r1 + 0.3 * r2) / 2 / decay

        return h.mean(cost)

    return {("generator", "game"): generator, ("discriminator", "game"): discriminator}


GAMES: dict[str, tuple[Cost, Cost]] = {
    "non_saturating": (
        lambda real, fake: minus_log_sigmoid(fake),
        lambda real, fake: minus_log_sigmoid(real) + minus_log_sigmoid(-fake),
    ),
    "relativistic": (
        lambda real, fake: minus_log_sigmoid(fake - real),
        lambda real, fake: minus_log_sigmoid(real - fake),
    ),
}


def screen(game: str, decay: float = 1.0) -> Screen:
    config = {**read(CONFIG), "losses": {"game": {"use": f"loss/{game}", "with": OPTIONS}}}
    return Screen(config, read_table(TABLE), formulas(*GAMES[game], decay))


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
@pytest.mark.parametrize("game", GAMES)
def test_gan(game, rows) -> None:
    check(screen(game), rows)


@pytest.mark.parametrize("game", GAMES)
def test_gaps_hold_anything(game) -> None:
    check_gaps(screen(game), GAPS)


@pytest.mark.parametrize(("progress", "decay"), [(1.0, 10.0), (0.5, 1 / (0.1 + 0.9 / 2))])
def test_penalties_anneal_to_a_tenth_by_cosine(progress, decay) -> None:
    check(screen("relativistic", decay), GAPS, Clock(5, progress))


@pytest.mark.parametrize("game", GAMES)
def test_the_discriminators_gradient_is_the_slope_of_its_cost(game) -> None:
    """Central differences along random directions: no double backward in the oracle."""
    made = screen(game)
    graph = deepcopy(build(made.config))
    batch, owned = batch_of(graph, GAPS), graph.owners("discriminator")
    received = turn(graph, "discriminator", ["game"], [batch])
    weights = {f"{node}.{n}": p for node in owned for n, p in graph[node].named_parameters()}
    generator = torch.Generator().manual_seed(0)

    def cost(move: Mapping[str, Tensor], step: float) -> float:
        with torch.no_grad():
            for name, p in weights.items():
                p += step * move[name]
        value = made.formulas["discriminator", "game"](hand(graph, batch)).item()
        with torch.no_grad():
            for name, p in weights.items():
                p -= step * move[name]
        return 0.8 * value

    for _ in range(3):
        move = {n: torch.randn(p.shape, generator=generator, dtype=p.dtype) for n, p in weights.items()}
        slope = (cost(move, 1e-5) - cost(move, -1e-5)) / 2e-5
        assert sum(float((received[n] * d).sum()) for n, d in move.items()) == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_a_discriminator_without_double_backward_pays_the_approximated_penalty() -> None:
    """((D(x + s e) - D(x)) / s)^2, e ~ N(0, I), s = .01: arXiv:2501.08316. The cells stay."""

    def approximate(h: Hand, i: int, row: Row, *view: str) -> Tensor:
        moved = {m: x + 0.01 * h.normal(i, len(x), *view, "penalty", "score", m) for m, x in row.items()}
        return ((score(h, moved) - score(h, row)) / 0.01) ** 2

    def judge(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            fake = generate(h, i, row, zeros_if_missing)
            penalty = 0.5 * approximate(h, i, row) + 0.3 * approximate(h, i, fake, "generated", "prior", "fake")
            return GAMES["non_saturating"][1](score(h, row), score(h, fake)) + penalty / 2

        return h.mean(cost)

    made = screen("non_saturating")
    graph = deepcopy(build(made.config))
    graph.approximated.add("score")
    costs = {**made.formulas, ("discriminator", "game"): judge}
    for rows in (WHOLE, GAPS):
        check(Screen(made.config, made.table, costs), rows, graph=graph)


RECIPE_TABLE = """
                          | given_c given dec_x dec_y | disc_x disc_y disc_c disc_all score
generator     adversarial | 1                         | 0
discriminator adversarial | 0                         | 1
"""


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_the_recipe(rows) -> None:
    """The condition has a fusion of its own there, which knows what is missing."""
    sizes = {"x": 3, "y": 2, "c": 2}
    modalities = {m: {"use": "modality/toys.vector", "with": {"size": size}} for m, size in sizes.items()}
    options = {"given": ["c"], "latent": 2, "width": 8, "r1": 0.5, "r2": 0.3, "game": "relativistic"}
    config = engine().recipe_config("gan", modalities, **options)

    def condition(h: Hand, row: Row) -> Tensor:
        return h.concat("given", [h.net("given_c", row["c"]) if "c" in row else None], relu)

    costs = formulas(*GAMES["relativistic"], activation=relu, condition=condition)
    check(Screen(config, read_table(RECIPE_TABLE), {(p, "adversarial"): f for (p, _), f in costs.items()}), rows)
