"""The non-saturating game."""

from torch.nn.functional import softplus

from fusion_engine import Player
from fusion_engine_generative.losses.games.base import PlainGame, Scores


class NonSaturating(PlainGame):
    """The non-saturating game (Goodfellow et al., 2014, section 3).

        L_D = softplus(-D(x)) + softplus(D(x~))        L_G = softplus(-D(x~))  [+ softplus(D(x)) where x is inferred]

    Args: as those of ``PlainGame``.
    """

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Classify, or be taken for real."""
        if player == "discriminator":
            return softplus(-real) + softplus(fake)
        return softplus(-fake) + softplus(real) if self.infers else softplus(-fake)
