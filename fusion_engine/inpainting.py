"""Fill gaps inside samples: what is known of a sample stays, the rest is decoded from z, which is inferred from it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fusion_engine.data import Prepared, Table
from fusion_engine.errors import FusionError
from fusion_engine.graph import Graph
from fusion_engine.latent_search import Weights, optimise
from fusion_engine.masked import Masked, read_masks
from fusion_engine.masking import box as box
from fusion_engine.masking import gap as gap
from fusion_engine.requests import check_choice, check_count, decoder
from fusion_engine.run import Run
from fusion_engine.sampling import join, singled
from fusion_engine.values import Signal

METHODS = ("encode", "optimise")


@dataclass(frozen=True)
class Inpainting:
    """How gaps inside samples are filled.

    Args:
        method: "encode" infers z from what is known; "optimise" searches the z whose decoding agrees with it.
        rounds: of encoding; from the second on what was completed is encoded.
        steps: of the search.
        starts: of the search, where it begins at draws of noise; the best is kept.
        rate: of Adam.
        discriminator_weight: lambda, of softplus(-D(G(z))) in the search.
        prior_weight: of -log p(z) in the search.
        window: of the neighbourhoods that weigh what is known; by default as in ``masking.surroundings``.

    Raises:
        FusionError: there is no such method. DataError: a number is below 1.
    """

    method: str = "encode"
    rounds: int = 8
    steps: int = 100
    starts: int = 4
    rate: float = 0.1
    discriminator_weight: float = 0.003
    prior_weight: float = 0.1
    window: int | None = None

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        for name, number in {"rounds": self.rounds, "steps": self.steps, "starts": self.starts}.items():
            check_count(number, 1, f"{name!r} is too small", name)

    def __call__(self, masked: Masked, sample: bool) -> dict[str, Signal]:
        """Complete the masked samples of one run."""
        if self.method == "encode":
            return encode(masked, rounds=self.rounds, sample=sample)
        weights = Weights(self.discriminator_weight, self.prior_weight, self.window)
        return optimise(masked, steps=self.steps, starts=self.starts, rate=self.rate, weights=weights, sample=sample)


@torch.no_grad()
def inpainted(
    graph: Graph, rows: Prepared, runs: Iterable[Run], known: Mapping[str, Any], how: Inpainting, sample: bool
) -> dict[str, Signal]:
    """Complete the masked samples of all rows, run by run.

    Raises:
        DataError: a mask does not fit its sample. FusionError: the method cannot do it with this graph.
    """
    masks = read_masks(graph, rows, known)
    if how.method == "encode":
        check_path(graph, list(masks))
    found: dict[str, list[Signal]] = {name: [] for name in masks}
    start = 0
    for run in runs:
        for name, signal in how(Masked.of(run, masks, start), sample).items():
            found[name].append(signal)
        start += len(run.batch)
    return {name: join(parts) for name, parts in found.items()}


def merged(table: Table, known: Mapping[str, Any], filled: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Put what was completed into the rows that have a mask and a sample."""
    rows = [dict(table[i]) for i in range(len(table))]
    for name, column in filled.items():
        for row, mask, raw in zip(rows, known[name], column, strict=True):
            if mask is not None and row.get(name) is not None:
                row[name] = raw
    return rows


def check_path(graph: Graph, names: Sequence[str]) -> None:
    """Check that masked encoding can start from each of the modalities.

    Raises:
        FusionError: nothing leads from one to its own decoder.
    """
    for name in names:
        if name not in graph.wiring.ancestors(decoder(graph, name)):
            raise FusionError(
                f"nothing leads from {name!r} to its own decoder, so z cannot be inferred from what is known of it",
                expected="a posterior, or the code of an autoencoder, between them",
                fix='use method="optimise": it searches z',
            )


def encode(masked: Masked, *, rounds: int, sample: bool) -> dict[str, Signal]:
    """Infer z from what is known, decode, keep what is known; from then on infer z from the completed samples.

    Pseudo-Gibbs: Rezende et al., 2014, arXiv:1401.4082, appendix F. With means in place of draws a fixed point is a
    mode of p(hidden, z | known), if the posterior is exact.
    """
    found = masked.composite(singled(masked.hidden()), sample)
    for i in range(rounds - 1):
        view = masked.completed(found).replay({}, label=("round", i))
        found = masked.composite(singled(view), sample)
    return found
