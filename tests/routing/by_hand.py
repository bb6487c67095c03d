"""The papers' formulas in plain torch, one row at a time, on a graph's own weights and its own random draws.

Nothing here runs a graph: presence is a loop over what a row has, a product of experts a sum over experts.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from fusion_engine import Batch, Clock, Graph, Noise

Row = dict[str, Tensor]
Vectors = Sequence[Tensor | None]


class Hand:
    """Weights, rows and draws.

    Args:
        graph: whose weights.
        batch: its rows.
        noise: of the turn.
        clock: of the turn.
    """

    def __init__(self, graph: Graph, batch: Batch, noise: Noise, clock: Clock) -> None:
        self.graph, self.batch, self.noise, self.clock = graph, batch, noise, clock
        self.frozen = False

    def hold(self) -> "Hand":
        """The same with weights that are constants."""
        other = Hand(self.graph, self.batch, self.noise, self.clock)
        other.frozen = True
        return other

    def weight(self, node: str, path: str) -> Tensor:
        """One parameter of a node."""
        found = self.graph[node].get_parameter(path)
        return found.detach() if self.frozen else found

    # Rows

    def rows(self, *modalities: str) -> list[tuple[int, Row]]:
        """(i, what row i has) of the rows that have any of the modalities; by default of all."""
        wanted = modalities or tuple(self.batch.signals)
        found = [(i, self.row(i)) for i in range(len(self.batch))]
        return [(i, row) for i, row in found if any(m in row for m in wanted)]

    def row(self, i: int) -> Row:
        """What row i has, without its padding."""
        found = {}
        for m, signal in self.batch.signals.items():
            if self.batch.present[m][i]:
                found[m] = signal.data[i] if signal.mask is None else signal.data[i][signal.mask[i]]
        return found

    def mean(self, cost: Callable[[int, Row], Tensor], *modalities: str) -> Tensor:
        """The mean of a cost over the rows that have any of the modalities."""
        rows = self.rows(*modalities)
        return sum((cost(i, row) for i, row in rows), torch.zeros(())) / max(1, len(rows))

    # Draws

    def normal(self, i: int, width: int, *purpose: object, k: int | None = None) -> Tensor:
        """The standard normal numbers of row i for a purpose: [width], or [k width]."""
        drawn = self.noise.at(*purpose).normal(width, lead=() if k is None else (k,))
        return drawn[..., i, :].double()

    def uniform(self, i: int, *purpose: object) -> float:
        """The uniform number of row i for a purpose."""
        return float(self.noise.at(*purpose).uniform()[i])

    # Nets

    def linear(self, node: str, path: str, x: Tensor) -> Tensor:
        """W x + b."""
        return self.weight(node, f"{path}.weight") @ x + self.weight(node, f"{path}.bias")

    def net(self, node: str, *parts: Tensor) -> Tensor:
        """A toy encoder or decoder of a vector: W2 tanh(W1 [parts] + b1) + b2."""
        return self.linear(node, "net.second", torch.tanh(self.linear(node, "net.first", torch.cat(parts))))

    def concat(self, node: str, vectors: Vectors, activation: Callable[[Tensor], Tensor] = functional.silu) -> Tensor:
        """fusion/concat of depth 1: a placeholder where a vector is missing."""
        filled = [self.weight(node, f"placeholders.{j}") if v is None else v for j, v in enumerate(vectors)]
        return self.linear(node, "mlp.2", activation(self.linear(node, "mlp.0", torch.cat(filled))))

    def head(self, node: str, x: Tensor) -> Tensor:
        """A linear head."""
        return self.linear(node, "mlp.0", x)

    def score(self, node: str, x: Tensor) -> Tensor:
        """A linear score: a number."""
        return self.head(node, x)[0]

    # Posteriors

    def gaussian(self, node: str, x: Tensor | None) -> tuple[Tensor, Tensor]:
        """posterior/gaussian of one input: mean and deviation; those of the prior where the input is missing."""
        if x is None:
            zeros = torch.zeros(self.graph.posterior(node).latent, dtype=torch.float64)
            return zeros, zeros + 1
        return bounded(self.linear(node, "linear", x))

    def expert(self, node: str, j: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The expert of input j: mean and deviation."""
        return bounded(self.linear(node, f"experts.linears.{j}", x))

    def product(self, node: str, vectors: Vectors, prior: bool = True) -> tuple[Tensor, Tensor]:
        """The product of the experts of what is there and, if ``prior``, N(0, I): mean and deviation."""
        pairs = [self.expert(node, j, x) for j, x in enumerate(vectors) if x is not None]
        precision = sum((1 / s**2 for _, s in pairs), torch.tensor(float(prior)))
        loc = sum((m / s**2 for m, s in pairs), torch.zeros(())) / precision
        shape = [self.graph.posterior(node).latent]
        return loc.double().expand(shape), precision.double().expand(shape) ** -0.5

    def products(self, node: str, vectors: Vectors) -> dict[int, tuple[Tensor, Tensor]]:
        """posterior/mvae: the joint at 0 and, where there are several inputs, each alone at 1 + j."""
        there = [j for j, v in enumerate(vectors) if v is not None]
        alone = {1 + j: [v if i == j else None for i, v in enumerate(vectors)] for j in there if len(there) > 1}
        return {k: self.product(node, chosen) for k, chosen in {0: list(vectors), **alone}.items()}


def bounded(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a Normal whose log-variance lies between -10 and 10."""
    loc, logvar = raw.chunk(2)
    return loc, torch.exp(10 * torch.tanh(logvar / 10) / 2)


def kl(loc: Tensor, scale: Tensor) -> Tensor:
    """KL(N(loc, scale) || N(0, I))."""
    return (loc**2 + scale**2 - 1 - 2 * scale.log()).sum() / 2


def nll(x: Tensor, loc: Tensor) -> Tensor:
    """-log N(x; loc, I)."""
    return ((x - loc) ** 2).sum() / 2 + x.numel() * math.log(2 * math.pi) / 2


def minus_log_sigmoid(x: Tensor) -> Tensor:
    """-log sigmoid(x): how far a score is from saying real."""
    return (1 + (-x).exp()).log()


def squared_gradient(score: Callable[[Row], Tensor], row: Mapping[str, Tensor]) -> Tensor:
    """||grad D||^2 at everything that the row holds, to be differentiated again."""
    leaves = {m: x.detach().clone().requires_grad_() for m, x in row.items()}
    found = torch.autograd.grad(score(leaves), list(leaves.values()), create_graph=True)
    return sum(((g**2).sum() for g in found), torch.zeros(()))
