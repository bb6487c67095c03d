"""Balanced consistency regularisation: a discriminator's score must not depend on how its input is augmented."""

from typing import Annotated

from pydantic import Field

from fusion_engine import Graph, Loss, Player, Rows, Run, Term
from fusion_engine_generative.losses.games.augmentation import Augment, Augmentation


class Consistency(Loss):
    """Keep scores where augmentation leaves them (bCR, Zhao et al., AAAI 2021, eq. 2 and 3, arXiv:2002.04724).

        (D(x) - D(T(x)))^2 + fake_weight (D(x~) - D(T(x~)))^2,   x~ a draw from the prior

    The discriminator alone pays, so that T does not leak into what is generated. CR-GAN (Zhang et al., 2020,
    arXiv:1910.12027) has a ``fake_weight`` of 0. It tells the two differences, ``real`` and ``fake``, squared.

    Args:
        score: the head whose scores are kept.
        weight: of the term.
        fake_weight: of the generated rows in it.
        augment: what T is, as the games take it; by default all that the discriminator's modalities have.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        weight: Annotated[float, Field(ge=0)] = 10.0,
        fake_weight: Annotated[float, Field(ge=0)] = 1.0,
        augment: Augment | None = None,
    ) -> None:
        super().__init__(graph, ["discriminator"], weight)
        self.score, self.fake_weight = score, fake_weight
        self.augmentation = Augmentation(graph, score, augment or Augment())

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have anything the discriminator looks at."""
        return run.present(self.score)

    def forward(self, run: Run, player: Player) -> Term:
        """Compare each view with itself, augmented."""
        moved = []
        for view in (run.real(), run.fake("prior")):
            moved.append((view.score(self.score) - self.augmentation.show(view).score(self.score)).pow(2))
        real, fake = moved
        return Term.of(real + self.fake_weight * fake, self.rows(run, player), real=real, fake=fake)
