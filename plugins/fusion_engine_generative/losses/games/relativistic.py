"""The relativistic pairing game, the default."""

from typing import Annotated

from pydantic import Field
from torch.nn.functional import softplus

from fusion_engine import Graph, Player
from fusion_engine_generative.losses.games.augmentation import Augment
from fusion_engine_generative.losses.games.base import Fakes, Game, Scores, Weight


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
        augment: what the discriminator sees its inputs through; {} is all that there is, None nothing.
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
        augment: Augment | None = None,
    ) -> None:
        super().__init__(graph, score, weight, (r1, r2, decay, every), fakes, augment)

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Score higher than the other, row by row."""
        margin = real - fake if player == "discriminator" else fake - real
        return softplus(-margin)

    def sign(self, real: Scores, fake: Scores) -> Scores:
        """Say by +1 which real rows score above the fake ones that they are paired with: only differences count."""
        return (real - fake).detach().sign()
