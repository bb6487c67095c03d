"""The Wasserstein game with a gradient penalty between real and generated data."""

from typing import Annotated, Any, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import Graph, Player, Posterior, Run, Signal, Term
from fusion_engine_generative.losses.games.augmentation import Augment
from fusion_engine_generative.losses.games.base import Fakes, Game, Scores, Source, Weight


class Wasserstein(Game):
    """The critic's game (WGAN-GP, Gulrajani et al., 2017, eq. 3, arXiv:1704.00028).

        L_D = D(x~) - D(x) + gp (||grad D(x^)|| - 1)^2,   x^ = e x + (1 - e) x~,   e ~ U(0, 1), one a row
        L_G = -D(x~)  [+ D(x) where x is inferred]

    Every input of the discriminator lies on the same point between the two, z of a posterior too; discrete data at its
    embedding is that of the real row (a mixture of tokens is none). It wants several steps of the discriminator for one
    of the generator (``train.turns``), and Adam with betas of 0 and .9.

    Args:
        score: the head to play on.
        weight: of both players' terms.
        gradient_penalty: gp.
        every: pay the penalty on one step of so many, multiplied by it.
        fakes: weight by source; default {prior: 1}.
        augment: what the discriminator sees its inputs through; {} is all that there is, None nothing.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        weight: Weight = 1.0,
        gradient_penalty: Weight = 10.0,
        every: Annotated[int, Field(ge=1)] = 1,
        fakes: Fakes | None = None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(graph, score, weight, (0.0, 0.0, 1.0, every), fakes, augment)
        self.gradient_penalty = gradient_penalty

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Widen the distance, or narrow it."""
        if player == "discriminator":
            return fake - real
        return real - fake if self.infers else -fake

    def sign(self, real: Scores, fake: Scores) -> Scores:
        """Say by +1 which real rows score above the fake ones that they are paired with: only differences count."""
        return (real - fake).detach().sign()

    def forward(self, run: Run, player: Player) -> Term:
        """Play against each source, and add the penalty in the discriminator's turn."""
        term = super().forward(run, player)
        strength = self.gradient_penalty * self.strength(run, player)
        if strength == 0:
            return term
        rows, paid = self.rows(run, player), torch.zeros(len(run.batch), device=term.sum.device)
        for source, share in self.fakes.items():
            view = between(self.real(run), self.fake(run, source), self.score, source)
            squared = view.score_and_gradient(self.score)[1]
            paid = paid + share * strength * (squared.clamp(min=1e-12).sqrt() - 1) ** 2
        penalty = Term.of(paid, rows, penalty=paid)
        return Term(term.sum + penalty.sum, term.count, {**term.statistics, **penalty.statistics})


def between(real: Run, fake: Run, score: str, source: Source) -> Run:
    """Put all that a discriminator looks at on a random point between two views, the same for all inputs of a row."""
    share: Float[Tensor, " b"] = real.noise("between", score, source).uniform(like=real.score(score).detach())
    values: dict[str, Any] = {}
    for name in real.wiring.boundary(score):
        if isinstance(real[name], Posterior):
            a, b = (cast(Posterior, view[name]).z.detach() for view in (real, fake))
            values[name] = cast(Posterior, real[name]).with_z(_mixed(a, b, share, axis=-2))
        else:
            values[name] = _mixed_signals(real.signal(name), fake.signal(name), share)
    return real.replay(values, label=("between", source))


def _mixed_signals(real: Signal, fake: Signal, share: Tensor) -> Signal:
    """Mix data; whole numbers are mixed as one-hot vectors where the other view has such, else they are the same."""
    a, b = real.filled().detach(), fake.filled().detach()
    if not a.is_floating_point() and b.ndim == a.ndim + 1:
        a = torch.nn.functional.one_hot(a.clamp(0, b.shape[-1] - 1), b.shape[-1]).to(b.dtype)
    return Signal(_mixed(a, b, share), real.mask, real.position) if a.is_floating_point() else real


def _mixed(real: Tensor, fake: Tensor, share: Tensor, axis: int = 0) -> Tensor:
    """Return e real + (1 - e) fake, e [b] along one axis."""
    shape = [1] * real.ndim
    shape[axis] = len(share)
    e = share.reshape(shape).to(real.dtype)
    return e * real + (1 - e) * fake
