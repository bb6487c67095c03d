"""The auto-encoder with a target, and the beta-VAE with a capacity (Burgess et al., 2018): the recipes' own configs.

auto-encoder   encoders, fusion, code <- reconstruction + weight * cross entropy     decoders <- reconstruction
beta-VAE       encoders, posterior    <- reconstruction + gamma |KL - C|             decoders <- reconstruction
"""

import pytest
import torch
from by_hand import Hand, Row, kl, nll
from screen import Screen, check, check_gaps, engine, read_table, subsets
from test_larsen import Larsen
from torch import Tensor
from torch.nn.functional import log_softmax, relu

from fusion_engine import Clock

SIZES = {"x": 3, "y": 2}
VECTORS = {m: {"use": "modality/toys.vector", "with": {"size": size}} for m, size in SIZES.items()}
WHOLE, GAPS = ["xyl"] * 4, [*subsets("xyl"), "xl"]

TABLE = """
                             | enc_x enc_y fused code | dec_x dec_y | predict
generator     reconstruction | 1                      | 1           | 0
generator     supervised     | .3                     | 0           | .3
"""


def code(h: Hand, row: Row) -> Tensor:
    found = [h.net(f"enc_{m}", row[m]) if m in row else None for m in SIZES]
    return h.linear("code", "mlp.0", h.concat("fused", found, relu))


def reconstruction(h: Hand) -> Tensor:
    """Over the rows that have anything; a row with the label alone has nothing to reconstruct."""

    def cost(i: int, row: Row) -> Tensor:
        made = {m: h.net(f"dec_{m}", code(h, row)) for m in SIZES if m in row}
        return sum((max(SIZES.values()) / SIZES[m] * nll(row[m], x) for m, x in made.items()), torch.zeros(()))

    return h.mean(cost)


def supervised(h: Hand) -> Tensor:
    rows = [row for _, row in h.rows() if "label" in row and len(row) > 1]
    costs = [-log_softmax(h.head("predict", code(h, row)), 0)[int(row["label"])] for row in rows]
    return sum(costs, torch.zeros(())) / len(rows)


def autoencoder(**options) -> dict[str, object]:
    label = {"use": "modality/category", "with": {"classes": [0, 1, 2]}}
    given = {"latent": 2, "width": 4, "target": "label", "supervised_weight": 0.3}
    return engine().recipe_config("autoencoder", {**VECTORS, "label": label}, **given, **options)


SCREEN = Screen(
    autoencoder(),
    read_table(TABLE),
    {("generator", "reconstruction"): reconstruction, ("generator", "supervised"): supervised},
)


@pytest.mark.parametrize("rows", [WHOLE, GAPS], ids=["whole", "gaps"])
def test_autoencoder(rows) -> None:
    check(SCREEN, rows)


def test_gaps_hold_anything() -> None:
    check_gaps(SCREEN, GAPS)


CAPACITY_TABLE = """
                             | enc_x enc_y post | dec_x dec_y
generator     reconstruction | 1                | 1
generator     kl             | 3                | 0
"""


def beta_vae(rows: list[str], clock: Clock, wanted: float) -> None:
    larsen = Larsen()
    options = {"posterior": "poe", "latent": 2, "components": 0, "capacity": 4.0, "gamma": 3.0, "capacity_steps": 40}

    def distance(h: Hand) -> Tensor:
        return h.mean(lambda i, row: (kl(*larsen.posterior(h, row)) - wanted).abs())

    costs = {
        ("generator", "reconstruction"): lambda h: larsen.reconstruction(h, SIZES),
        ("generator", "kl"): distance,
    }
    config = engine().recipe_config("beta_vae", VECTORS, **options)
    check(Screen(config, read_table(CAPACITY_TABLE), costs), rows, clock)


@pytest.mark.parametrize("rows", [["xy"] * 4, [*subsets("xy"), "y"]], ids=["whole", "gaps"])
@pytest.mark.parametrize(("step", "wanted"), [(0, 0.0), (1, 0.1), (30, 3.0), (100, 4.0)])
def test_beta_vae_with_a_capacity(step, wanted, rows) -> None:
    beta_vae(rows, Clock(step), wanted)


def test_beta_vae_without_one_is_a_vae_with_another_beta() -> None:
    plain, strong = (engine().recipe_config(name, VECTORS, latent=2) for name in ("vae", "beta_vae"))
    plain["losses"]["kl"]["with"]["beta"] = 4.0
    assert {**plain, "name": ""} == {**strong, "name": ""}
