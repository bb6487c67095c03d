"""A built graph: the wiring, the fitted modalities, one module a node, one a loss."""

from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from torch import nn

from fusion_engine.components import Modality, PosteriorNetwork, Prior
from fusion_engine.config import Player
from fusion_engine.errors import FusionError, nearest
from fusion_engine.wiring import Wiring


def _mangle(name: str) -> str:
    """Make a name that nn.ModuleDict takes: it rejects its own methods' names, such as ``type`` and ``keys``."""
    return f"{name}_"


class Graph(nn.Module):
    """Named nodes wired by name. It computes nothing itself: a ``Run`` does, on one batch.

    Args:
        wiring: who feeds whom.
        modalities: fitted, by name.
    """

    def __init__(self, wiring: Wiring, modalities: Mapping[str, Modality]) -> None:
        super().__init__()
        self.wiring = wiring
        self.modalities = dict(modalities)
        self.nodes = nn.ModuleDict()
        self.losses = nn.ModuleDict()
        self.approximated: set[str] = set()
        """Scores whose gradient penalty is approximated, as their discriminator has no double backward."""

    def add(self, name: str, module: nn.Module) -> None:
        """Put a node's module in."""
        self.nodes[_mangle(name)] = module

    def add_loss(self, name: str, module: nn.Module) -> None:
        """Put a loss in."""
        self.losses[_mangle(name)] = module

    def __getitem__(self, name: str) -> nn.Module:
        key = _mangle(name)
        if key not in self.nodes:
            raise FusionError(f"the graph has no node {name!r}", fix=nearest(name, self.wiring.nodes))
        return self.nodes[key]

    def loss(self, name: str) -> nn.Module:
        """The module of a loss."""
        key = _mangle(name)
        if key not in self.losses:
            raise FusionError(f"the graph has no loss {name!r}", fix=nearest(name, self.loss_names))
        return self.losses[key]

    @property
    def loss_names(self) -> tuple[str, ...]:
        """Names of the losses."""
        return tuple(key[:-1] for key in self.losses)

    def posterior(self, name: str) -> PosteriorNetwork:
        """The module of a posterior node."""
        return cast(PosteriorNetwork, self[name])

    def prior_of(self, posterior: str) -> Prior:
        """The prior that a posterior is trained with: a node's, or the posterior's own."""
        node = self.trained_prior(posterior)
        return self.posterior(posterior).prior if node is None else cast(Prior, self[node])

    def trained_prior(self, posterior: str) -> str | None:
        """The prior node that trains with a posterior in place of its own; None where there is none."""
        return next(iter(self.trained_priors(posterior)), None)

    def trained_priors(self, posterior: str) -> list[str]:
        """All that a config wires so; a built graph has one at most."""
        wired = [n for n in self.wiring.of_kind("prior") if posterior in self.wiring.nodes[n].of]
        return [n for n in wired if cast(Prior, self[n]).trains]

    def fitted_priors(self) -> dict[str, tuple[str, ...]]:
        """Prior nodes that are fitted to posteriors' latents, and which those are."""
        wired = {n: self.wiring.nodes[n].of for n in self.wiring.of_kind("prior") if self.wiring.nodes[n].of}
        return {n: of for n, of in wired.items() if cast(Prior, self[n]).fits}

    def parameters_of(self, names: Iterable[str]) -> Iterator[nn.Parameter]:
        """Parameters of some nodes, each once, in the order of the graph."""
        wanted, seen = set(names), set[int]()
        for name in self.wiring.order:
            if name in wanted:
                for parameter in self[name].parameters():
                    if id(parameter) not in seen:
                        seen.add(id(parameter))
                        yield parameter

    def owners(self, player: Player) -> frozenset[str]:
        """The nodes of a player."""
        return self.wiring.players[player]

    def summary(self) -> list[tuple[str, str, str, int]]:
        """Rows of (node, component, wired from, parameters)."""
        rows = []
        for name in self.wiring.order:
            node = self.wiring.nodes[name]
            size = sum(p.numel() for p in self[name].parameters())
            rows.append((name, node.use, ", ".join(node.sources) or "-", size))
        return rows
