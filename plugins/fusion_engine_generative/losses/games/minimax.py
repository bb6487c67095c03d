"""The minimax game, as first proposed."""

from torch.nn.functional import softplus

from fusion_engine import Player
from fusion_engine_generative.losses.games.base import PlainGame, Scores


class Minimax(PlainGame):
    """The minimax game (Goodfellow et al., 2014, eq. 1, arXiv:1406.2661).

    The generator's gradient fades where the discriminator is sure, which the non-saturating game mends.

        L_D = softplus(-D(x)) + softplus(D(x~))        L_G = -softplus(D(x~))  [- softplus(-D(x)) where x is inferred]

    Args: as those of ``PlainGame``.
    """

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Classify, or keep the other from classifying."""
        if player == "discriminator":
            return softplus(-real) + softplus(fake)
        return -softplus(fake) - softplus(-real) if self.infers else -softplus(fake)
