"""LeCam regularisation: keep scores near the averages of the other side, where data is scarce."""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu

from fusion_engine import Graph, Loss, Player, Rows, Run, Term


class LeCam(Loss):
    """Pull real scores down to the fake ones' average, and fake ones up to the real ones' (Tseng et al., 2021, sec. 3).

        weight (relu(D(x) - a_fake)^2 + relu(a_real - D(x~))^2),   a <- decay a + (1 - decay) mean score

    arXiv:2104.03310; the one-sided form is that of the authors' code. The averages begin at 0,
    are of all rows of a step, and stay with the model. The discriminator alone pays. Fakes are draws from the prior.

    Args:
        score: the head whose scores are kept near.
        weight: of the term.
        decay: of the averages, a step.
    """

    real: Tensor
    fake: Tensor

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        weight: Annotated[float, Field(ge=0)] = 0.01,
        decay: Annotated[float, Field(ge=0, lt=1)] = 0.99,
    ) -> None:
        super().__init__(graph, ["discriminator"], weight)
        self.score, self.decay = score, decay
        for name in ("real", "fake"):
            self.register_buffer(name, torch.zeros(()))

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have anything the discriminator looks at."""
        return run.present(self.score)

    def forward(self, run: Run, player: Player) -> Term:
        """Pull both sides; tell their mean scores."""
        real, fake = run.real().score(self.score), run.fake("prior").score(self.score)
        cost = relu(real - self.fake) ** 2 + relu(self.real - fake) ** 2
        return Term.of(cost, self.rows(run, player), real=real, fake=fake)

    def observe(self, player: Player, statistics: Mapping[str, float]) -> None:
        """Move the averages."""
        for name in ("real", "fake"):
            average: Tensor = getattr(self, name)
            average.lerp_(torch.as_tensor(statistics[name]).to(average), 1 - self.decay)
