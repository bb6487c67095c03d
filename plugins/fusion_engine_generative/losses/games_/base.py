"""Adversarial games: what the discriminator and the generator minimise, and the gradient penalties they share."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.nn.functional import softplus

from fusion_engine import BuildError, Clock, Graph, Loss, Player, Rows, Run, Term

Scores = Float[Tensor, " b"]
Weight = Annotated[float, Field(ge=0)]
Source = Literal["prior", "fitted", "reconstruction"]
Fakes = dict[Source, Weight]


class Game(Loss):
    """An adversarial game on one score head, over the fakes of one or several sources.

    Sources are draws from the priors of training, from the priors fitted to the latents when the stage began, which are
    what generation draws from, and reconstructions.
    The masses of the sources are normalised to one, so that real and fake weigh the same. In its own turn the
    discriminator may pay a penalty on the gradient at real data (R1, Mescheder et al., 2018, arXiv:1801.04406) and at
    generated data (R2), gamma / 2 E ||grad D||^2 each, which decays ``decay`` times by cosine over training
    (Huang et al., 2024, arXiv:2501.05441). A lazy penalty is paid on one step of ``every``, that many times over
    (Karras et al., 2020, arXiv:1912.04958, appendix B): nearly the same pull at a fraction of the cost.

    Where the real view depends on a posterior (BiGAN, AAE), the generator plays on it too.
    """

    def __init__(
        self,
        graph: Graph,
        score: str,
        weight: float,
        penalties: tuple[float, float, float, int],
        fakes: Mapping[Source, float] | None,
    ) -> None:
        super().__init__(graph, ["discriminator", "generator"], weight)
        self.score, (self.r1, self.r2, self.decay, self.every) = score, penalties
        self.fakes = _shares(graph, fakes)
        self.draws_fitted = "fitted" in self.fakes
        self.infers = graph.wiring.through_posterior(score)

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have anything the discriminator looks at."""
        return run.present(self.score)

    @abstractmethod
    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """The cost of each row, for one source of fakes."""

    def forward(self, run: Run, player: Player) -> Term:
        """Play against each source, and add the penalties in the discriminator's turn."""
        penalise = player == "discriminator" and run.clock.step % self.every == 0
        strength = annealed(self.decay, run.clock) * self.every if penalise else 0.0
        real, cost = _scored(run.real(), self.score, self.r1 * strength)
        for source, share in self.fakes.items():
            fake, penalty = _scored(run.fake(source), self.score, self.r2 * strength)
            cost = cost + share * (self.play(real, fake, player) + penalty)
        return Term.of(cost, self.rows(run, player))


def _shares(graph: Graph, fakes: Mapping[Source, float] | None) -> dict[Source, float]:
    infers = bool(graph.wiring.of_kind("posterior"))
    chosen: dict[Source, float] = dict(fakes) if fakes else {"prior": 1.0}
    if "reconstruction" in chosen and not infers:
        raise BuildError(
            "there is no posterior, so there are no reconstructions to judge",
            where="'fakes'",
            fix="use {prior: 1}",
        )
    if "fitted" in chosen and not graph.fitted_priors():
        raise BuildError(
            "there is no prior that is fitted to a posterior",
            where="'fakes'",
            fix="add one, such as {use: prior/mixture, of: post}, or use {prior: 1}",
        )
    total = sum(chosen.values())
    if total <= 0:
        raise BuildError(
            "the fakes weigh nothing",
            where="'fakes'",
            actual=str(chosen),
            fix="give one a positive weight",
        )
    return {source: share / total for source, share in chosen.items() if share > 0}


def _scored(view: Run, score: str, gamma: float) -> tuple[Scores, Scores]:
    """Score a view, with gamma / 2 times the squared norm of its gradient where gamma is positive."""
    if gamma == 0:
        scores = view.score(score)
        return scores, torch.zeros_like(scores)
    scores, squared = view.score_and_gradient(score)
    return scores, gamma / 2 * squared


def annealed(decay: float, clock: Clock) -> float:
    """Fall from 1 to 1 / decay along half a cosine over training."""
    return 1 / decay + (1 - 1 / decay) * (1 + math.cos(math.pi * clock.progress)) / 2


class NonSaturating(Game):
    """The non-saturating game (Goodfellow et al., 2014, section 3).

        L_D = softplus(-D(x)) + softplus(D(x~))        L_G = softplus(-D(x~))  [+ softplus(D(x)) where x is inferred]

    Args:
        score: the head to play on.
        weight: of both players' terms.
        r1, r2: gamma of the penalties; 0 for none.
        decay: how many times the penalties fall over training.
        every: pay the penalties on one step of so many, multiplied by it.
        fakes: weight by source; default {prior: 1}.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        weight: Weight = 1.0,
        r1: Weight = 0.0,
        r2: Weight = 0.0,
        decay: Annotated[float, Field(ge=1)] = 1.0,
        every: Annotated[int, Field(ge=1)] = 1,
        fakes: Fakes | None = None,
    ) -> None:
        super().__init__(graph, score, weight, (r1, r2, decay, every), fakes)

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Classify, or be taken for real."""
        if player == "discriminator":
            return softplus(-real) + softplus(fake)
        return softplus(-fake) + softplus(real) if self.infers else softplus(-fake)


class Relativistic(Game):
    """The relativistic pairing game with annealed R1 and R2 (Huang et al., 2024, arXiv:2501.05441, eq. 2 and 4).

        L_D = softplus(-(D(x) - D(x~))) + gamma / 2 (||grad D(x)||^2 + ||grad D(x~)||^2)
        L_G = softplus(-(D(x~) - D(x)))

    Args:
        score: the head to play on.
        weight: of both players' terms.
        r1, r2: gamma of the penalties on data of unit deviation.
        decay: how many times the penalties fall over training.
        every: pay the penalties on one step of so many, multiplied by it.
        fakes: weight by source; default {prior: 1}.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        weight: Weight = 1.0,
        r1: Weight = 0.05,
        r2: Weight = 0.05,
        decay: Annotated[float, Field(ge=1)] = 10.0,
        every: Annotated[int, Field(ge=1)] = 1,
        fakes: Fakes | None = None,
    ) -> None:
        super().__init__(graph, score, weight, (r1, r2, decay, every), fakes)

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Score higher than the other, row by row."""
        margin = real - fake if player == "discriminator" else fake - real
        return softplus(-margin)
