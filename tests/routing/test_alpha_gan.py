"""The alpha-GAN: Rosca et al., 2017, arXiv:1706.04987, algorithm 1, as the recipe wires it.

encoder   <- lambda L_rec, and C's mistake on its codes        never the data's game
decoder   <- lambda L_rec, and D's mistake on x^ and x~        never the codes' game
D         <- data against reconstructions and prior samples, in equal parts
C         <- codes of the encoder against draws of the prior
"""

import pytest
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import Screen, build, check, check_gaps, engine, read_table, subsets
from test_aae import code, draw
from test_larsen import Larsen
from torch import Tensor
from torch.nn.functional import relu

TABLE = """
                             | enc_x enc_y post | dec_x dec_y | disc_x disc_y disc_all score | code_disc code_score
generator     reconstruction | .7               | .7          | 0                            | 0
generator     codes          | .4               | 0           | 0                            | 0
generator     adversarial    | 0                | .2          | 0                            | 0
discriminator codes          | 0                | 0           | 0                            | .4
discriminator adversarial    | 0                | 0           | .2                           | 0
"""

SIZES = {"x": 3, "y": 2}
OPTIONS = {
    "posterior": "poe",
    "latent": 2,
    "width": 4,
    "game": "non_saturating",
    "reconstruction_weight": 0.7,
    "weight": 0.2,
    "code_weight": 0.4,
    "r1": 0.5,
    "r2": 0.3,
}
WHOLE, GAPS = ["xy"] * 4, [*subsets("xy"), "x"]
DATA = Larsen(activation=relu, shares={"reconstruction": 0.5, "prior": 0.5}, r1=0.5, r2=0.3)


def recipe(**options) -> dict[str, object]:
    modalities = {m: {"use": "modality/toys.vector", "with": {"size": size}} for m, size in SIZES.items()}
    return engine().recipe_config("alpha_gan", modalities, **{**OPTIONS, **options})


def inferred(h: Hand, z: Tensor) -> Tensor:
    """C: high for codes of the encoder."""
    return h.score("code_score", h.concat("code_disc", [z], relu))


def fool_codes(h: Hand) -> Tensor:
    return h.mean(lambda i, row: minus_log_sigmoid(-inferred(h, code(h, i, row))))


def judge_codes(h: Hand) -> Tensor:
    def cost(i: int, row: Row) -> Tensor:
        z, drawn = code(h, i, row), draw(h, i)
        squares = [squared_gradient(lambda seen: inferred(h, seen["z"]), {"z": c}) for c in (z, drawn)]
        scores = minus_log_sigmoid(inferred(h, z)) + minus_log_sigmoid(-inferred(h, drawn))
        return scores + (0.5 * squares[0] + 0.3 * squares[1]) / 2

    return h.mean(cost)


FORMULAS = {
    ("generator", "reconstruction"): lambda h: DATA.reconstruction(h, SIZES),
    ("generator", "codes"): fool_codes,
    ("generator", "adversarial"): DATA.deceive,
    ("discriminator", "codes"): judge_codes,
    ("discriminator", "adversarial"): DATA.judge,
}
SCREEN = Screen(recipe(), read_table(TABLE), FORMULAS)


@pytest.mark.parametrize("rows", [WHOLE, GAPS, ["x", "y"]], ids=["whole", "gaps", "alternating"])
def test_alpha_gan(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


def test_the_two_scores_are_two_discriminators() -> None:
    wiring = build(SCREEN.config).wiring
    assert wiring.boundary("score") == ("x", "y")
    assert wiring.boundary("code_score") == ("post",)
    assert not wiring.trunk("score") & wiring.trunk("code_score")
    assert wiring.through_posterior("code_score")
    assert not wiring.through_posterior("score")
