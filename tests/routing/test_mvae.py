"""Multimodal VAE with sub-sampled training: Wu and Goodman, 2018, arXiv:1802.05335.

    row = mean over its components of  [ - sum_m w_m log p(x_m | z_k)  +  beta KL(q_k || p) ]

Components: the joint product, and each input alone where there are several. Each reconstructs all the row has.
"""

import pytest
import torch
from by_hand import Hand, Row, kl, nll
from screen import Screen, batch_of, build, check, check_gaps, compare, engine, read, read_table, subsets, turn
from torch import Tensor

SIZES = {"x": 3, "y": 2, "w": 4}


def config_of(names: str, private: str = "") -> str:
    """A screen's config for modalities, the private ones with a latent of their own."""
    lines = ["modalities:", *(f"  {m}: {{use: modality/toys.vector, with: {{size: {SIZES[m]}}}}}" for m in names)]
    encoders = ", ".join(f"enc_{m}" for m in names)
    lines += ["nodes:", f"  post: {{use: posterior/mvae, in: [{encoders}], with: {{latent: 2}}}}"]
    for m in names:
        z = f"[post, style_{m}]" if m in private else "post"
        lines += [f"  enc_{m}: {{use: encoder/toys.mlp, in: {m}}}"]
        lines += [f"  dec_{m}: {{use: decoder/toys.mlp, in: {{z: {z}}}, out: {m}}}"]
    lines += [f"  style_{m}: {{use: posterior/gaussian, in: enc_{m}, with: {{latent: 1}}}}" for m in private]
    return "\n".join([*lines, LOSSES])


LOSSES = """
losses:
  reconstruction: {use: loss/reconstruction, with: {weight: 0.9, weights: {x: 0.5}}}
  kl:             {use: loss/kl, with: {beta: 0.4}}
"""

TWO = """
                         | enc_x enc_y post | dec_x dec_y
generator reconstruction | .9               | .9
generator kl             | .4               | 0
"""

THREE = """
                         | enc_x enc_y enc_w post | dec_x dec_y dec_w
generator reconstruction | .9                     | .9
generator kl             | .4                     | 0
"""

PRIVATE = """
                         | enc_x enc_y post style_x | dec_x dec_y
generator reconstruction | .9                       | .9
generator kl             | .4                       | 0
"""


class MVAE:
    """The formulas for modalities ``names``, those in ``private`` with a latent of their own."""

    def __init__(self, names: str, private: str = "", weight: float = 0.5) -> None:
        self.names, self.private = names, private
        biggest = max(SIZES[m] for m in names)
        self.factors = {m: (weight if m == "x" else 1.0) * biggest / SIZES[m] for m in names}

    def components(self, h: Hand, row: Row) -> dict[int, tuple[Tensor, Tensor]]:
        return h.products("post", [h.net(f"enc_{m}", row[m]) if m in row else None for m in self.names])

    def style(self, h: Hand, m: str, row: Row) -> tuple[Tensor, Tensor]:
        return h.gaussian(f"style_{m}", h.net(f"enc_{m}", row[m]) if m in row else None)

    def own(self, h: Hand, i: int, m: str, row: Row) -> list[Tensor]:
        if m not in self.private:
            return []
        loc, scale = self.style(h, m, row)
        return [loc + scale * h.normal(i, 1, "posterior", f"style_{m}")]

    def reconstruction(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            found, total = self.components(h, row), torch.zeros(())
            draws = h.normal(i, 2, "posterior", "post", k=1 + len(self.names))
            for k, (loc, scale) in found.items():
                z = loc + scale * draws[k]
                for m, x in row.items():
                    total = total + self.factors[m] * nll(x, h.net(f"dec_{m}", z, *self.own(h, i, m, row)))
            return total / len(found)

        return h.mean(cost)

    def kl(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            found = self.components(h, row)
            shared = sum((kl(*pair) for pair in found.values()), torch.zeros(())) / len(found)
            return shared + sum((kl(*self.style(h, m, row)) for m in self.private), torch.zeros(()))

        return h.mean(cost)

    def formulas(self):
        return {("generator", "reconstruction"): self.reconstruction, ("generator", "kl"): self.kl}


def screen(table: str, names: str, private: str = "") -> Screen:
    return Screen(read(config_of(names, private)), read_table(table), MVAE(names, private).formulas())


SCREENS = {
    "two": (screen(TWO, "xy"), "xy"),
    "three": (screen(THREE, "xyw"), "xyw"),
    "a private latent": (screen(PRIVATE, "xy", "x"), "xy"),
}


@pytest.mark.parametrize("name", SCREENS)
def test_mvae(name) -> None:
    made, names = SCREENS[name]
    check(made, [names] * 3)
    check(made, [*subsets(names), names[0], names])


@pytest.mark.parametrize("name", SCREENS)
def test_gaps_hold_anything(name) -> None:
    made, names = SCREENS[name]
    check_gaps(made, subsets(names))


def test_a_row_with_nothing_counts_nothing() -> None:
    """The mean is over rows with anything: a batch of the others alone gives the same gradients."""
    made, _ = SCREENS["two"]
    graph = build(made.config)
    batch = batch_of(graph, ["xy", "", "x", "y"])
    for loss in ("reconstruction", "kl"):
        alone = turn(graph, "generator", [loss], [batch.take(torch.tensor([0, 2, 3]))])
        compare(turn(graph, "generator", [loss], [batch]), alone, loss)


RECIPE = """
                         | enc_x enc_y post style_x | dec_x dec_y
generator reconstruction | 1                        | 1
generator kl             | .4                       | 0
"""


@pytest.mark.parametrize("rows", [["xy"] * 3, subsets("xy")], ids=["whole", "gaps"])
def test_the_recipe(rows) -> None:
    modalities = {m: {"use": "modality/toys.vector", "with": {"size": SIZES[m]}} for m in "xy"}
    options = {"posterior": "mvae", "latent": 2, "beta": 0.4, "warmup_steps": 0, "components": 0, "private": {"x": 1}}
    config = engine().recipe_config("vae", modalities, **options)
    check(Screen(config, read_table(RECIPE), MVAE("xy", "x", weight=1.0).formulas()), rows)
