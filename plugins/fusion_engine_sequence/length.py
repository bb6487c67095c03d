"""How long generated sequences are: a likelihood, for an adversary cannot teach it."""

from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from fusion_engine import BuildError, Graph, Loss, Player, Rows, Run, SequenceModality, Term, match
from fusion_engine_sequence.likelihood import SequenceLikelihood


class Length(Loss):
    """-log p(n | z~, conditions), with n the real row's number of steps and z~ a draw from the prior.

    A generated sequence keeps the mask of the real one that it is paired with, lest a discriminator judge by length;
    so the hazard of a GAN's decoder learns from nothing else. z~ knows nothing of the row: what is learned is how long
    sequences are, given the conditions. Conditions and decoder receive it, the discriminator never does. A decoder
    without a hazard (of another plugin) contributes nothing. A missing sequence leaves the sum.

    Args:
        weight: of the term.
        nodes: which decoders (globs); by default all of sequences.

    Raises:
        BuildError: the graph decodes no sequence.
    """

    def __init__(
        self, graph: Graph, *, weight: Annotated[float, Field(ge=0)] = 1.0, nodes: list[str] | None = None
    ) -> None:
        super().__init__(graph, ["generator"], weight)
        made = {n: str(graph.wiring.nodes[n].out) for n in graph.wiring.of_kind("decoder")}
        made = {n: m for n, m in made.items() if isinstance(graph.modalities[m], SequenceModality)}
        if not made:
            raise BuildError("no decoder makes a sequence, so there is no length to learn", fix="remove the loss")
        chosen = match(nodes or ["*"], made, "'nodes'", "decoder of sequences")
        self.modality_of = {n: m for n, m in made.items() if n in chosen}

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have any of the sequences."""
        return torch.stack([run.present(m) for m in self.modality_of.values()]).any(0)

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the decoders, each over the rows that have its sequence."""
        rows = self.rows(run, player)
        cost = torch.zeros(len(rows), device=rows.device)
        for decoder, modality in self.modality_of.items():
            cost = cost + self._cost(run, decoder, modality)
        return Term.of(cost, rows)

    def _cost(self, run: Run, decoder: str, modality: str) -> Float[Tensor, " b"]:
        likelihood, rows = run.generated("prior").likelihood(decoder)
        cost = torch.zeros(len(rows), device=rows.device)
        mask = run.batch.signals[modality].mask
        if not isinstance(likelihood, SequenceLikelihood) or mask is None:
            return cost
        found = -likelihood.log_length(mask[rows])
        return cost.to(found).index_put((rows.nonzero().squeeze(1),), found)
