"""One component under test: how it is constructed, in all the ways that it will be wired."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_type_hints

import torch
from torch import nn

from fusion_engine.components import (
    CategoryModality,
    Dataset,
    Decoder,
    Encoder,
    Fusion,
    Head,
    Modality,
    PosteriorNetwork,
    PosteriorPrior,
    Prior,
    TakesFeatures,
)
from fusion_engine.config import Player
from fusion_engine.entry import Entry
from fusion_engine.errors import FusionError, PluginError
from fusion_engine.losses import Loss
from fusion_engine.noise import Noise
from fusion_engine.registry import Registry
from fusion_engine.signature import construct_kwargs
from fusion_engine.testing.cases import Case, make_features
from fusion_engine.testing.toy_networks import toy_registry
from fusion_engine.values import Widths

BASES: dict[str, type] = {
    "modality": Modality,
    "encoder": Encoder,
    "fusion": Fusion,
    "posterior": PosteriorNetwork,
    "prior": Prior,
    "decoder": Decoder,
    "head": Head,
    "loss": Loss,
    "dataset": Dataset,
}
WIDTHS = {"first": Widths(4, 3), "second": Widths(5, 6), "third": Widths(6, 7)}
"""What fusions, posteriors and heads are wired to: widths that all differ."""
LATENT, ROWS = 4, 5


@dataclass(frozen=True)
class Subject:
    """A component, its checked config and where other components are looked up.

    Args:
        name: to call it by in messages.
        kind: one of ``KINDS``.
        target: the class or function.
        config: complete, of JSON's types.
        registry: of everything else.
        modality: the one to encode, decode or predict.
        players: of the graph that a loss is given.
    """

    name: str
    kind: str
    target: Any
    config: Mapping[str, Any]
    registry: Registry
    modality: Modality | None = None
    players: Mapping[Player, Sequence[str]] | None = None

    def construct(self, *wiring: Any, config: Mapping[str, Any] | None = None, seed: int = 0) -> Any:
        """Construct it once."""
        torch.default_generator.manual_seed(seed)
        kwargs = construct_kwargs(self.target, self.config if config is None else config, self.name)
        return self.target(*wiring, **kwargs)

    def wirings(self) -> list[tuple[Any, ...]]:
        """Positional arguments of every way to wire a network; the widest first."""
        if self.kind == "prior":
            return [(_widths(3),), (_widths(1),)] if issubclass(self.target, PosteriorPrior) else [()]
        if self.kind == "encoder":
            return [(self.modality,)]
        if self.kind == "decoder":
            return [(LATENT, self.modality, {"given": Widths(5, 3)}), (LATENT, self.modality, {})]
        low, high = self.target.min_inputs, self.target.max_inputs
        most = max(low, 3 if high is None else min(3, high))
        inputs = [_widths(m) for m in dict.fromkeys((most, low))]
        return [(w, self.modality) for w in inputs] if self.kind == "head" else [(w,) for w in inputs]

    def network(self, wiring: int = 0, seed: int = 0) -> nn.Module:
        """Make the network in one wiring, its weights moved a little from where they start."""
        return perturbed(self.construct(*self.wirings()[wiring], seed=seed), seed)

    def networks(self) -> Iterator[nn.Module]:
        """Yield the network in each wiring."""
        for wiring in range(len(self.wirings())):
            yield self.network(wiring)


def _widths(m: int) -> dict[str, Widths]:
    spare = {f"input{i}": Widths(4, 3) for i in range(3, m)}
    return dict(list({**WIDTHS, **spare}.items())[:m])


def perturbed(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every weight a little: what starts at zero hides what stands before it."""
    g = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in module.parameters():
            if p.is_floating_point() and not nn.parameter.is_lazy(p):
                p.add_(0.3 * torch.randn(p.shape, generator=g) * max(1, p.shape[1:].numel()) ** -0.5)
    return module.eval()


def make_case(
    module: nn.Module, b: int = ROWS, *, seed: int = 0, lengths: int | list[int] = 3, ragged: bool = False
) -> Case:
    """Make inputs for a network; modalities give the signals, ragged as they are."""
    noise = Noise(seed + 1, torch.arange(b), b)
    if isinstance(module, Prior):
        return Case(noise)
    if isinstance(module, TakesFeatures):
        features = make_features(module.inputs, b, lengths=lengths, ragged=ragged, seed=seed)
        return Case(noise, None, features, torch.ones(b, len(features), dtype=torch.bool))
    signal = module.modality.example(b * (seed + 1)).take(torch.arange(b) + b * seed)  # type: ignore[union-attr,operator]
    if isinstance(module, Decoder):
        features = make_features(module.conditions, b, lengths=lengths, ragged=ragged, seed=seed)
        z = torch.randn(b, module.latent, generator=torch.Generator().manual_seed(seed + 2))
        return Case(noise, signal, features, None, z)
    return Case(noise, signal)


def find_kind(target: Any) -> str:
    """Tell the kind of a component by its base class; a plain function is a recipe.

    Raises:
        FusionError: it has none of our bases.
    """
    if inspect.isclass(target):
        for kind, base in BASES.items():
            if issubclass(target, base):
                return kind
    elif callable(target):
        return "recipe"
    raise FusionError(
        f"{target!r} is of no kind that its base class tells",
        expected="a subclass of " + ", ".join(base.__name__ for base in BASES.values()),
        fix="say kind='metric', say",
    )


def find_modality(kind: str, target: Any, registry: Registry) -> Modality | None:
    """Choose a modality of the family that a component annotates: a registered one, else a toy.

    Raises:
        FusionError: there is none.
    """
    if kind not in ("encoder", "decoder") and not (kind == "head" and target.predicts):
        return None
    family = modality_hint(target)
    if not (isinstance(family, type) and issubclass(family, Modality)):
        family = CategoryModality if kind == "head" else Modality
    for entry in [*registry.of("modality"), *toy_registry().of("modality")]:
        made = _modality(entry, family)
        if made is not None:
            return made
    raise FusionError(
        f"no modality is registered that is a {family.__name__}", where=str(target), fix="give one: modality=..."
    )


def modality_hint(target: Any) -> Any:
    """Read how a constructor annotates its modality; None where it does not."""
    return get_type_hints(target.__init__).get("modality")


def _modality(entry: Entry, family: type) -> Modality | None:
    """Construct a registered modality with its defaults, if it is of the family and can be loaded."""
    try:
        kind: Callable[..., Any] = entry.load()
    except PluginError:
        return None  # a broken neighbour is not what is being tested
    if not (inspect.isclass(kind) and issubclass(kind, family)):
        return None
    return cast(Modality, kind(**construct_kwargs(kind, {}, entry.full_name)))
