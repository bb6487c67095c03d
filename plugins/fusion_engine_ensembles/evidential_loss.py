"""Evidential learning: Sensoy, Kaplan, Kandemir, NeurIPS 2018, arXiv:1806.01768; of several views and their
combination: Han, Zhang, Fu, Zhou, ICLR 2021, arXiv:2102.02051, eqs. 9 to 13.
"""

from typing import Annotated, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.distributions import Dirichlet, kl_divergence
from torch.nn.functional import one_hot, softplus

from fusion_engine import BuildError, CategoryModality, Clock, Graph, Head, Loss, Player, Rows, Run, Term, nodes_of
from fusion_engine_ensembles.dempster import combined_evidence


def evidential_loss(evidence: Float[Tensor, "b c"], labels: Int[Tensor, " b"], share: float) -> Float[Tensor, " b"]:
    """Return the adjusted cross entropy of a Dirichlet, and its divergence from the uniform one beside the label.

    digamma(S) - digamma(alpha[label]) + share KL(Dir(y + (1 - y) alpha) || Dir(1)),  alpha = e + 1, S = sum alpha
    """
    alpha, y = evidence + 1, one_hot(labels, evidence.shape[-1]).to(evidence)
    fit = torch.digamma(alpha.sum(-1)) - (y * torch.digamma(alpha)).sum(-1)
    wrong = Dirichlet(y + (1 - y) * alpha, validate_args=False)
    uniform = Dirichlet(torch.ones_like(alpha), validate_args=False)
    found: Tensor = fit + share * kl_divergence(wrong, uniform)
    return found


class EvidentialLoss(Loss):
    """Train predicting heads to give evidence: of each head, and of their combination where there are several.

        sum over heads h of loss(e_h) + loss(combined e), e_h = softplus(h); only heads that the row reaches

    loss: ``evidential_loss``. Heads read apart, one a modality, are views; ``ensemble/evidential`` combines them. A row
    without the label, or without anything that leads to a head, is left out; a head that a row does not reach has no
    term of its own and no evidence in the combination.

    Args:
        heads: which heads (globs), all of one label; by default all that give one logit a class.
        weight: of the term.
        annealing_steps: over how many steps the share of the divergence grows from 0 to 1, along a straight line.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        heads: list[str] | None = None,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        annealing_steps: Annotated[int, Field(ge=0)] = 1000,
    ) -> None:
        chosen = nodes_of(graph, "head", heads or ["*"], "'heads'")
        found = tuple(h for h in chosen if heads or _has_logits(graph, h))
        label = _label(graph, found)
        owners = [p for p in graph.wiring.players if set(found) <= set(graph.wiring.players[p])]
        super().__init__(graph, owners[:1], weight)
        self.heads, self.label, self.annealing_steps = found, label, annealing_steps

    def rows(self, run: Run, player: Player) -> Rows:
        """The rows that have the label and something to predict it from."""
        return run.batch.present[self.label] & torch.stack([run.present(h) for h in self.heads]).any(0)

    def share(self, clock: Clock) -> float:
        """Return the share of the divergence at this moment."""
        return min(1.0, clock.step / self.annealing_steps) if self.annealing_steps else 1.0

    def forward(self, run: Run, player: Player) -> Term:
        """Add up the rows that have the label."""
        rows, share = self.rows(run, player), self.share(run.clock)
        labels = run.batch.signals[self.label].data.masked_fill(~rows, 0)
        reached = torch.stack([run.present(h) for h in self.heads])
        evidence = softplus(torch.stack([run[h] for h in self.heads])).masked_fill(~reached[..., None], 0.0)
        parts = [torch.where(r, evidential_loss(e, labels, share), 0.0) for e, r in zip(evidence, reached)]
        if len(self.heads) > 1:
            parts.append(evidential_loss(combined_evidence(evidence), labels, share))
        return Term.of(torch.stack(parts).sum(0), rows)


def _has_logits(graph: Graph, head: str) -> bool:
    modality = graph.modalities.get(str(graph.wiring.nodes[head].out))
    return isinstance(modality, CategoryModality) and cast(Head, graph[head]).outputs == len(modality.classes)


def _label(graph: Graph, heads: tuple[str, ...]) -> str:
    """Return the one category that all heads predict."""
    labels = {str(graph.wiring.nodes[h].out) for h in heads}
    label = next(iter(labels), "")
    if len(labels) != 1 or not all(_has_logits(graph, h) for h in heads):
        raise BuildError(
            "these heads do not predict one label",
            where="'heads'",
            expected="heads with the same 'out', a category, that give one logit a class",
            actual=", ".join(f"{h} -> {graph.wiring.nodes[h].out}" for h in heads) or "no head that predicts",
        )
    return label
