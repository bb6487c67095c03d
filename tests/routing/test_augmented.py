"""Augmentation changes what a discriminator sees, and not who receives what: the tables of GAN, VAE-GAN, BiGAN and
the AE-GAN with a shared encoder stay, cell by cell.

T(x) and T(x~) stand wherever D(x) and D(x~) stood; penalties are those of the gradient at T(x). Posteriors, encoders
and feature matching know nothing of T. Zhao et al. 2020, arXiv:2006.10738, eq. 2 and 3.
"""

from functools import partial

import pytest
import test_ae_gan
import test_bigan
import test_gan
import test_larsen
import torch
from by_hand import Hand, Row, minus_log_sigmoid, squared_gradient
from screen import Screen, check, check_gaps, read, read_table
from torch import Tensor

CHOSEN = {"x": ("move", "stretch"), "y": ("stretch",)}
P = 0.6
REAL = ()


def view_of(source: str) -> tuple[str, ...]:
    return ("generated", source, "fake")


def seen(h: Hand, i: int, row: Row, *view: str) -> Row:
    """T(row) in one view: 1/2 to 3/2 of each number, or 0 to 1 more of all."""
    out = dict(row)
    for m, names in CHOSEN.items():
        for name in names if m in row else ():
            noise = h.noise.at(*view, "augment", m, name)
            if float(noise.at("rows").uniform()[i]) < P:
                stretch = name == "stretch"
                u = noise.uniform(len(row[m]) if stretch else 1)[i].double()
                out[m] = out[m] * (0.5 + u) if stretch else out[m] + u
    return out


def screen(config: str, table: str, formulas, loss: str) -> Screen:
    made = read(config)
    chosen = {m: list(names) for m, names in CHOSEN.items()}
    made["losses"][loss]["with"]["augment"] = {"modalities": chosen, "probability": P}
    return Screen(made, read_table(table), formulas)


# GAN: the condition c stays as it is


def gan() -> Screen:
    d, made = test_gan.score, partial(test_gan.generate, condition=test_gan.zeros_if_missing)

    def generator(h: Hand) -> Tensor:
        return h.mean(lambda i, row: minus_log_sigmoid(d(h, seen(h, i, made(h, i, row), *view_of("prior")))))

    def discriminator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            real, fake = seen(h, i, row, *REAL), seen(h, i, made(h, i, row), *view_of("prior"))
            r1, r2 = squared_gradient(partial(d, h), real), squared_gradient(partial(d, h), fake)
            return minus_log_sigmoid(d(h, real)) + minus_log_sigmoid(-d(h, fake)) + (0.5 * r1 + 0.3 * r2) / 2

        return h.mean(cost)

    losses = {"losses": {"game": {"use": "loss/non_saturating", "with": {**test_gan.OPTIONS, "decay": 1.0}}}}
    config = f"{test_gan.CONFIG}\n{losses}".replace("{'losses': ", "losses: ", 1).removesuffix("}")
    formulas = {("generator", "game"): generator, ("discriminator", "game"): discriminator}
    return screen(config, test_gan.TABLE, formulas, "game")


# VAE-GAN: the encoder still receives KL and feature matching alone, both from clean data


class Larsen(test_larsen.Larsen):
    """Larsen's formulas on T."""

    def deceive(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            made = {s: seen(h, i, self.fake(h, i, row, s), *view_of(s)) for s in self.shares}
            return sum(
                (share * minus_log_sigmoid(self.score(h, made[s])) for s, share in self.shares.items()), torch.zeros(())
            )

        return h.mean(cost)

    def judge(self, h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            d, real = partial(self.score, h), seen(h, i, row, *REAL)
            total = minus_log_sigmoid(d(real)) + self.r1 / 2 * squared_gradient(d, real)
            for source, share in self.shares.items():
                fake = seen(h, i, self.fake(h, i, row, source), *view_of(source))
                total = total + share * (minus_log_sigmoid(-d(fake)) + self.r2 / 2 * squared_gradient(d, fake))
            return total

        return h.mean(cost)


def larsen() -> Screen:
    return screen(test_larsen.CONFIG, test_larsen.TABLE, Larsen().formulas(), "adversarial")


# BiGAN: D(T(x), E(x)), E of clean data


def bigan() -> Screen:
    def pair(h: Hand, i: int, row: Row) -> tuple[Row, Row]:
        real, fake = test_bigan.real(h, i, row), test_bigan.fake(h, i, row)
        return seen(h, i, real, *REAL), seen(h, i, fake, *view_of("prior"))

    def generator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            real, fake = (test_bigan.score(h, x) for x in pair(h, i, row))
            return minus_log_sigmoid(-real) + minus_log_sigmoid(fake)

        return h.mean(cost)

    def discriminator(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            d, (real, fake) = partial(test_bigan.score, h), pair(h, i, row)
            penalty = 0.5 * squared_gradient(d, real) + 0.3 * squared_gradient(d, fake)
            return minus_log_sigmoid(d(real)) + minus_log_sigmoid(-d(fake)) + penalty / 2

        return h.mean(cost)

    formulas = {("generator", "game"): generator, ("discriminator", "game"): discriminator}
    return screen(test_bigan.CONFIG, test_bigan.TABLE, formulas, "game")


# AE-GAN: the encoder judges T(x), and infers from x


def ae_gan() -> Screen:
    def fake(h: Hand, i: int, row: Row, source: str, detach: bool) -> Row:
        z = test_ae_gan.latent(h, i, row, source)
        made = test_ae_gan.decode(h, z.detach() if detach else z, row)
        return seen(h, i, made if detach else {m: x.detach() for m, x in made.items()}, *view_of(source))

    def deceive(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            fakes = [fake(h, i, row, source, True) for source in ("reconstruction", "prior")]
            return sum((minus_log_sigmoid(test_ae_gan.score(h, x)) / 2 for x in fakes), torch.zeros(()))

        return h.mean(cost)

    def judge(h: Hand) -> Tensor:
        def cost(i: int, row: Row) -> Tensor:
            d, real = partial(test_ae_gan.score, h), seen(h, i, row, *REAL)
            total = minus_log_sigmoid(d(real)) + 0.5 / 2 * squared_gradient(d, real)
            for source in ("reconstruction", "prior"):
                made = fake(h, i, row, source, False)
                total = total + (minus_log_sigmoid(-d(made)) + 0.3 / 2 * squared_gradient(d, made)) / 2
            return total

        return h.mean(cost)

    changed = {("generator", "adversarial"): deceive, ("discriminator", "adversarial"): judge}
    formulas = {**test_ae_gan.SCREEN.formulas, **changed}
    return screen(test_ae_gan.CONFIG, test_ae_gan.TABLE, formulas, "adversarial")


CASES = {
    "gan": (gan, test_gan.WHOLE, test_gan.GAPS),
    "larsen": (larsen, test_larsen.WHOLE, test_larsen.GAPS),
    "bigan": (bigan, test_bigan.WHOLE, test_bigan.GAPS),
    "ae_gan": (ae_gan, test_ae_gan.WHOLE, test_ae_gan.GAPS),
}


@pytest.mark.parametrize("gaps", [False, True], ids=["whole", "gaps"])
@pytest.mark.parametrize("name", CASES)
def test_the_table_stays(name, gaps) -> None:
    made, whole, subsets = CASES[name]
    check(made(), subsets if gaps else whole)


@pytest.mark.parametrize("name", CASES)
def test_gaps_hold_anything(name) -> None:
    made, _, subsets = CASES[name]
    check_gaps(made(), subsets)
