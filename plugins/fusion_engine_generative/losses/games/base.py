"""What adversarial games share: the views they are played on, fakes from several sources, gradient penalties."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import BuildError, Clock, Graph, Loss, Player, Rows, Run, Term
from fusion_engine_generative.losses.games.augmentation import Augment, Augmentation

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

    It tells the mean score of what is ``real`` and what is ``fake``, the ``penalty`` paid, and the mean ``sign`` of the
    scores of real rows, which nears 1 as the discriminator memorises them (Karras et al., 2020, arXiv:2006.06676, r_t).
    With ``augment`` the discriminator, in both players' turns, sees real and generated data through random changes, and
    penalties are those of the gradient at what it sees; the game then tells their probability, ``augmented``, too.
    """

    def __init__(
        self,
        graph: Graph,
        score: str,
        weight: float,
        penalties: tuple[float, float, float, int],
        fakes: Mapping[Source, float] | None,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(graph, ["discriminator", "generator"], weight)
        self.score, (self.r1, self.r2, self.decay, self.every) = score, penalties
        self.fakes = _shares(graph, fakes)
        self.draws_fitted = "fitted" in self.fakes
        self.infers = graph.wiring.through_posterior(score)
        self.augmentation = None if augment is None else Augmentation(graph, score, augment)
        self._shown = 0

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have anything the discriminator looks at."""
        return run.present(self.score)

    @abstractmethod
    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """The cost of each row, for one source of fakes."""

    def forward(self, run: Run, player: Player) -> Term:
        """Play against each source, and add the penalties in the discriminator's turn."""
        strength = self.strength(run, player)
        real, paid = self.scored(self.real(run), self.r1 * strength)
        cost, told, sign = paid, torch.zeros_like(paid), torch.zeros_like(paid)
        for source, share in self.fakes.items():
            fake, penalty = self.scored(self.fake(run, source), self.r2 * strength)
            cost = cost + share * (self.play(real, fake, player) + penalty)
            paid, told = paid + share * penalty, told + share * fake
            sign = sign + share * self.sign(real, fake)
        statistics = {"real": real, "fake": told, "penalty": paid, "sign": sign}
        if self.augmentation is not None:
            statistics["augmented"] = torch.full_like(paid, self.augmentation.probability)
            self._shown = run.batch.total
        return Term.of(cost, self.rows(run, player), **statistics)

    def scored(self, view: Run, gamma: float) -> tuple[Scores, Scores]:
        """Score a view, with gamma / 2 times the squared norm of its gradient where gamma is positive."""
        if gamma == 0:
            scores = view.score(self.score)
            return scores, torch.zeros_like(scores)
        scores, squared = view.score_and_gradient(self.score)
        return scores, gamma / 2 * squared

    def real(self, run: Run) -> Run:
        """Return the real view, as the discriminator sees it."""
        return run.real() if self.augmentation is None else self.augmentation.show(run.real())

    def fake(self, run: Run, source: Source) -> Run:
        """Return the view of fakes from one source, as the discriminator sees it."""
        return run.fake(source) if self.augmentation is None else self.augmentation.show(run.fake(source))

    def observe(self, player: Player, statistics: Mapping[str, float]) -> None:
        """Let the probability of augmentation follow how sure the discriminator is of real rows."""
        if self.augmentation is not None and player == "discriminator" and "sign" in statistics:
            self.augmentation.observe(statistics["sign"], self._shown)

    def strength(self, run: Run, player: Player) -> float:
        """How much of the penalties is paid in this turn: 0 in the generator's, and between lazy ones."""
        due = player == "discriminator" and run.clock.step % self.every == 0
        return annealed(self.decay, run.clock) * self.every if due else 0.0

    def sign(self, real: Scores, fake: Scores) -> Scores:
        """Say by +1 which real rows the discriminator takes for real, by -1 which it does not."""
        return real.detach().sign()


class PlainGame(Game):
    """A game that has no penalties unless its config gives it some.

    Args:
        score: the head to play on.
        weight: of both players' terms.
        r1, r2: gamma of the penalties; 0 for none.
        decay: how many times the penalties fall over training.
        every: pay the penalties on one step of so many, multiplied by it.
        fakes: weight by source; default {prior: 1}.
        augment: what the discriminator sees its inputs through; {} is all that there is, None nothing.
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
        augment: Augment | None = None,
    ) -> None:
        super().__init__(graph, score, weight, (r1, r2, decay, every), fakes, augment)


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


def annealed(decay: float, clock: Clock) -> float:
    """Fall from 1 to 1 / decay along half a cosine over training."""
    return 1 / decay + (1 - 1 / decay) * (1 + math.cos(math.pi * clock.progress)) / 2
