"""The least-squares game."""

from fusion_engine import Player
from fusion_engine_generative.losses.games.base import PlainGame, Scores


class LeastSquares(PlainGame):
    """The least-squares game with targets 0, 1 and 1 (LSGAN, Mao et al., ICCV 2017, eq. 2 and 9, arXiv:1611.04076).

        L_D = 1/2 (D(x) - 1)^2 + 1/2 D(x~)^2        L_G = 1/2 (D(x~) - 1)^2  [+ 1/2 D(x)^2 where x is inferred]

    Args: as those of ``PlainGame``.
    """

    def play(self, real: Scores, fake: Scores, player: Player) -> Scores:
        """Come near the target: 1 for what is to count as real, 0 for the rest."""
        if player == "discriminator":
            return ((real - 1) ** 2 + fake**2) / 2
        return ((fake - 1) ** 2 + real**2) / 2 if self.infers else (fake - 1) ** 2 / 2

    def sign(self, real: Scores, fake: Scores) -> Scores:
        """Say by +1 which real rows score nearer to 1 than to 0."""
        return (real - 0.5).detach().sign()
