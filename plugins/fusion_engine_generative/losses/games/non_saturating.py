"""The non-saturating game."""

from typing import Annotated

from pydantic import Field
from torch.nn.functional import softplus

from fusion_engine import Graph, Player
from fusion_engine_generative.losses.games.augmentation import Augment
from fusion_engine_generative.losses.games.base import Fakes, Game, Scores, Weight


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
        """Classify, or be taken for real."""
        if player == "discriminator":
            return softplus(-real) + softplus(fake)
        return softplus(-fake) + softplus(real) if self.infers else softplus(-fake)
