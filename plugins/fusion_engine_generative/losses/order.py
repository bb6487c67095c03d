"""Order: a discriminator must tell real sequences from the same ones with their steps shuffled.

A further kind of fake beside generated data, as a mismatched caption is one for text to image (Reed et al., 2016,
arXiv:1605.05396, section 4.2); the pairing is that of Jolicoeur-Martineau, 2019, arXiv:1807.00734.
"""

from typing import Annotated

import torch
from pydantic import Field
from torch.nn.functional import softplus

from fusion_engine import BuildError, Graph, Loss, Player, Rows, Run, SequenceModality, Term, match, shuffled_steps


class Order(Loss):
    """Score a real row above itself with the valid steps of its sequences in a random order.

        L_D = softplus(-(D(x) - D(x_pi))),  x_pi[t] = x[pi(t)], pi uniform over the orders of a row's valid steps

    Only the discriminator plays; what a generator learns of it comes back through the game. A sequence of one step, or
    of steps that are all alike, is its own shuffled copy and moves nothing. All sequences of a row are shuffled, each
    in an order of its own; a row that has none of them does not count, and what is missing stays missing.
    ``told`` is the share of rows in which the real order scores higher.

    Args:
        score: the head whose discriminator learns.
        weight: of the term.
        modalities: which sequences (globs); by default all that the discriminator sees and a decoder makes.

    Raises:
        BuildError: there is no such sequence.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        score: str,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        modalities: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["discriminator"], weight)
        seen = graph.wiring.ancestors(score)
        sequences = [m for m, kind in graph.modalities.items() if isinstance(kind, SequenceModality) and m in seen]
        if modalities is None:
            sequences = [m for m in sequences if graph.wiring.decoder_of(m) is not None]
        if not sequences:
            raise BuildError(
                f"{score!r} looks at no sequence that is generated, so there is no order to learn",
                fix="remove the loss, or name sequences with 'modalities'",
            )
        chosen = match(modalities or ["*"], sequences, "'modalities'", "sequence of the discriminator")
        self.score, self.lengths = score, {m: _length(graph, m) for m in sequences if m in chosen}

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have any of the sequences."""
        return torch.stack([run.present(m) for m in self.lengths]).any(0)

    def forward(self, run: Run, player: Player) -> Term:
        """Compare each row with itself."""
        view = run.real()
        moved = {m: shuffled_steps(view.signal(m), run.noise("order", m), length) for m, length in self.lengths.items()}
        real, shuffled = view.score(self.score), view.replay(moved, label=("order",)).score(self.score)
        told = (real > shuffled).to(real)
        return Term.of(softplus(shuffled - real), self.rows(run, player), told=told)


def _length(graph: Graph, modality: str) -> int:
    kind = graph.modalities[modality]
    assert isinstance(kind, SequenceModality)
    return kind.length
