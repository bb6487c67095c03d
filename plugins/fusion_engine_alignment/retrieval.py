"""Retrieval between aligned nodes: which samples of one modality belong to samples of another.

Axes: q queries, c candidates, d width, k found.
"""

from typing import Any

import torch
from einops import einsum
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fusion_engine import DataError, FusionError, FusionModel, nearest
from fusion_engine_alignment.alignment import nodes_with_vectors, unit, vectors_of


@torch.no_grad()
def _vectors(model: FusionModel, data: Any, node: str) -> tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]:
    known = nodes_with_vectors(model.graph)
    if node not in known:
        raise FusionError(f"the model has no node {node!r} with vectors", fix=nearest(node, known))
    found = [(vectors_of(run, node), run.present(node)) for run in model.runs(data)]
    return torch.cat([v for v, _ in found]), torch.cat([p for _, p in found])


def similarities(model: FusionModel, queries: Any, source: str, candidates: Any, target: str) -> Float[Tensor, "q c"]:
    """Compare raw samples by the cosine of their vectors; -inf to a candidate that lacks what its node reads.

    Args:
        model: with two aligned nodes.
        queries: a table, such as ``{"text": [...]}``.
        source: the node that gives their vectors, such as ``embed_text``.
        candidates: a table, such as ``{"image": [...]}``.
        target: the node that gives theirs, such as ``embed_image``.

    Raises:
        DataError: a query lacks all that its node reads. FusionError: there is no such node.
    """
    x, asked = _vectors(model, queries, source)
    y, known = _vectors(model, candidates, target)
    if not asked.all():
        raise DataError(
            "a query has nothing to search by",
            where=f"row {int(asked.int().argmin())} of the queries",
            expected=f"anything that {source!r} reads",
        )
    if x.shape[1] != y.shape[1]:
        raise DataError(
            "the vectors of the two nodes have different widths, so that nothing is near",
            expected="two nodes that a loss aligned",
            actual=f"{source!r} has {x.shape[1]}, {target!r} has {y.shape[1]}",
        )
    cosine = einsum(unit(x), unit(y), "q d, c d -> q c")
    return cosine.masked_fill(~known, -torch.inf)


def retrieve(
    model: FusionModel, queries: Any, source: str, candidates: Any, target: str, *, k: int = 1
) -> Int[Tensor, "q k"]:
    """Return the rows of the k nearest candidates of each query, nearest first; arguments as of ``similarities``.

    Raises:
        DataError: there are fewer than k candidates that have what ``target`` reads; or as ``similarities`` does.
    """
    found = similarities(model, queries, source, candidates, target)
    known = int(found[0].isfinite().sum())
    if not 1 <= k <= known:
        raise DataError("there are too few candidates", expected=f"k from 1 to {known}", actual=f"k = {k}")
    return found.topk(k).indices
