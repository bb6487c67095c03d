"""Augmentation within the discriminator's path: DiffAugment, and ADA, which finds out how much of it.

Zhao et al., NeurIPS 2020, arXiv:2006.10738: both players see real and generated data through one differentiable T, so
that the discriminator has more to memorise and the generator learns nothing of T.
Karras et al., NeurIPS 2020, arXiv:2006.06676: T with probability p, and p follows how sure the discriminator is.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from fusion_engine import BuildError, Graph, Run, check_modalities, nearest

Chosen = dict[str, tuple[str, ...]]
_WHERE = "'augment.modalities'"


class Augment(BaseModel):
    """The config of a game's ``augment``.

    Args:
        modalities: names of augmentations by modality, applied in this order; an empty list is all that the modality
            has. None is all of all that the discriminator looks at.
        probability: of each change of each row.
        target: of the mean sign of real rows' scores; p then starts at 0 and grows while the mean is above it
            (ADA, with .6 in the paper), and ``probability`` is its ceiling. None leaves p as it is.
        images: how many rows it takes p to go from 0 to 1.
    """

    model_config = ConfigDict(strict=True, extra="forbid")
    modalities: dict[str, list[str]] | None = None
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    target: Annotated[float, Field(gt=-1, lt=1)] | None = None
    images: Annotated[int, Field(ge=1)] = 500_000


class Augmentation(nn.Module):
    """What a discriminator sees its inputs through, and how often.

        p <- clamp(p + sign(E sign D(x) - target) * rows of the step / images, 0, probability)

    Args:
        graph: whose discriminator.
        score: its head.
        augment: the config.
    """

    rows: Tensor

    def __init__(self, graph: Graph, score: str, augment: Augment) -> None:
        super().__init__()
        self.score, self.limit, self.target, self.images = score, augment.probability, augment.target, augment.images
        self.chosen = _chosen(graph, score, augment.modalities)
        if self.target is not None:  # a whole number: every process and every resumed run counts the same
            self.register_buffer("rows", torch.zeros((), dtype=torch.int64))

    @property
    def probability(self) -> float:
        """The p of now."""
        return self.limit if self.target is None else min(self.limit, int(self.rows) / self.images)

    def show(self, view: Run) -> Run:
        """Return the view as the discriminator is shown it; it is the same one where p is 0."""
        return view.augmented(self.score, self.chosen, self.probability)

    def observe(self, sign: float, rows: int) -> None:
        """Move p, after a turn of the discriminator on so many rows."""
        if self.target is not None:
            step = (sign > self.target) - (sign < self.target)
            self.rows += step * rows
            self.rows.clamp_(0, int(self.limit * self.images))


def _chosen(graph: Graph, score: str, wanted: Mapping[str, list[str]] | None) -> Chosen:
    """Check names and fill them in."""
    seen = _seen(graph, score)
    if wanted is None:
        chosen = {m: graph.modalities[m].augmentations for m in seen if graph.modalities[m].augmentations}
        if not chosen:
            raise BuildError(
                "nothing that the discriminator looks at can be augmented", where="'augment'", actual=", ".join(seen)
            )
        return chosen
    check_modalities(graph, wanted, _WHERE)
    return {m: _names(graph, m, names, seen) for m, names in wanted.items()}


def _seen(graph: Graph, score: str) -> tuple[str, ...]:
    """The modalities that a discriminator looks at, from data or straight from a decoder."""
    wiring = graph.wiring
    found = (wiring.nodes[s].out if wiring.kind(s) == "decoder" else s for s in wiring.boundary(score))
    return tuple(dict.fromkeys(m for m in found if m in graph.modalities))


def _names(graph: Graph, modality: str, names: list[str], seen: tuple[str, ...]) -> tuple[str, ...]:
    known = graph.modalities[modality].augmentations
    if modality not in seen:
        raise BuildError(f"the discriminator does not look at {modality!r}", where=_WHERE, fix=nearest(modality, seen))
    if not known:
        raise BuildError(
            f"data such as {modality!r} has no augmentations",
            where=_WHERE,
            actual=graph.wiring.modalities[modality],
            fix="leave it out",
        )
    for name in names:
        if name not in known:
            raise BuildError(f"{modality!r} has no augmentation {name!r}", where=_WHERE, fix=nearest(name, known))
    return tuple(names) or known
