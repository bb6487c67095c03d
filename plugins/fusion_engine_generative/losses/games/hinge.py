"""The hinge game."""

from torch.nn.functional import relu

from fusion_engine import Player
from fusion_engine_generative.losses.games.base import PlainGame, Scores


class Hinge(PlainGame):
    """The hinge game (Lim and Ye, 2017, arXiv:1705.02894; Miyato et al., 2018, eq. 16 and 17, arXiv:1802.05957).

        L_D = relu(1 - D(x)) + relu(1 + D(x~))        L_G = -D(x~)  [+ D(x) where x is inferred]

    Args: as those of ``PlainGame``.
    """

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Keep a margin of one, or raise the score."""
        if player == "discriminator":
            return relu(1 - real) + relu(1 + fake)
        return real - fake if self.infers else -fake
