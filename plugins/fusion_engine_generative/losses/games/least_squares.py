"""The least-squares game."""

from typing import Annotated

from pydantic import Field

from fusion_engine import Graph, Player
from fusion_engine_generative.losses.games.augmentation import Augment
from fusion_engine_generative.losses.games.base import Fakes, Game, Scores, Weight


class LeastSquares(Game):
    """The least-squares game with targets 0, 1 and 1 (LSGAN, Mao et al., ICCV 2017, eq. 2 and 9, arXiv:1611.04076).

        L_D = 1/2 (D(x) - 1)^2 + 1/2 D(x~)^2        L_G = 1/2 (D(x~) - 1)^2  [+ 1/2 D(x)^2 where x is inferred]

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

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Come near the target: 1 for what is to count as real, 0 for the rest."""
        if player == "discriminator":
            return ((real - 1) ** 2 + fake**2) / 2
        return ((fake - 1) ** 2 + real**2) / 2 if self.infers else (fake - 1) ** 2 / 2

    def sign(self, real: Scores, fake: Scores) -> Scores:
        """Say by +1 which real rows score nearer to 1 than to 0."""
        return (real - 0.5).detach().sign()
