"""Rows of which parts are hidden: their masks, replays without those parts, and what is decoded in their place.

Axes: b batch, n steps or tokens, v vocabulary. Masks are True where known.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import one_hot

from fusion_engine.components import TextModality
from fusion_engine.data import Prepared
from fusion_engine.errors import DataError
from fusion_engine.graph import Graph
from fusion_engine.likelihoods import Likelihood
from fusion_engine.masking import hide, spread
from fusion_engine.requests import check_columns, decoder
from fusion_engine.run import Run
from fusion_engine.sampling import decode
from fusion_engine.values import Signal

Masks = Mapping[str, Sequence[Tensor | None]]
"""By modality one mask a row over all of its data's axes; None where the row lacks the sample."""


def read_masks(graph: Graph, rows: Prepared, known: Mapping[str, Any]) -> Masks:
    """Check masks against the prepared samples, and spread them over all axes of these.

    Raises:
        DataError: a name is no modality, or a mask does not fit. FusionError: a modality has no decoder.
    """
    check_columns(graph.modalities, known, len(rows))
    if not known:
        raise DataError("nothing is hidden", expected="a mask a row for at least one modality", actual="no masks")
    for name in known:
        decoder(graph, name)
    return {name: [_mask(graph, rows, name, masks[i], i) for i in range(len(rows))] for name, masks in known.items()}


def _mask(graph: Graph, rows: Prepared, name: str, mask: Any, i: int) -> Tensor | None:
    signal = rows[i][name]
    if signal is None:
        return None
    if mask is None:
        return torch.ones(signal.data.shape, dtype=torch.bool)
    where = f"row {i}, modality {name!r}"
    return spread(torch.as_tensor(mask), signal.data.shape, graph.modalities[name], where)


@dataclass(frozen=True, eq=False)
class Masked:
    """A run, and what of its samples is known.

    Args:
        run: on the whole samples; what is hidden of them is never looked at.
        known: by modality, of the data's shape [b ...]; True in padding and in rows that lack the sample.
    """

    run: Run
    known: Mapping[str, Bool[Tensor, "b ..."]]

    @classmethod
    def of(cls, run: Run, masks: Masks, start: int) -> "Masked":
        """Stack the masks of a run's rows, which begin at ``start``."""
        known = {}
        for name, column in masks.items():
            data = run.batch.signals[name].data
            known[name] = torch.ones(data.shape, dtype=torch.bool)
            for i, mask in enumerate(column[start : start + len(data)]):
                if mask is not None:
                    known[name][i, : len(mask)] = mask
            known[name] = known[name].to(data.device)
        return cls(run, known)

    def present(self) -> dict[str, Tensor]:
        """Tell, by modality, which rows have anything that is known: a wholly hidden sample is a missing one."""
        return {m: self.run.present(m) & (k & self.valid(m)).flatten(1).any(1) for m, k in self.known.items()}

    def valid(self, name: str) -> Bool[Tensor, "b ..."]:
        """Tell which elements of the data are no padding; of a text, none behind its first end."""
        signal, modality = self.run.batch.signals[name], self.run.graph.modalities[name]
        if isinstance(modality, TextModality):
            return _before_end(signal.data, modality.end)
        mask = torch.ones(signal.data.shape[:2], dtype=torch.bool, device=signal.data.device)
        mask = mask if signal.mask is None else signal.mask
        return mask.reshape(*mask.shape, *[1] * (signal.data.ndim - 2)).expand(signal.data.shape)

    def hidden(self) -> Run:
        """Replay without what is not known."""
        run = self.run
        values = {m: hide(run.batch.signals[m], k, run.graph.modalities[m]) for m, k in self.known.items()}
        return run.replay(values, present=self.present())

    def completed(self, found: Mapping[str, Signal]) -> Run:
        """Replay with the completed samples."""
        return self.run.replay(found, present=self.present(), label=("completed",))

    def composite(self, decoded: Run, sample: bool) -> dict[str, Signal]:
        """Decode what is hidden, and keep what is known."""
        return {m: self._composite(m, decoded, sample) for m in self.known}

    def _composite(self, name: str, decoded: Run, sample: bool) -> Signal:
        real, known, modality = self.run.batch.signals[name], self.known[name], self.run.graph.modalities[name]
        node = decoder(self.run.graph, name)
        found = decode(decoded, node, sample).data
        if isinstance(modality, TextModality):
            return Signal(completed_text(decoded[node], modality, real.data, known, found))
        short = real.data.shape[1] - found.shape[1]
        if real.mask is not None and short > 0:
            found = torch.cat([found, found.new_zeros(len(found), short, *found.shape[2:])], 1)
        found = found[:, : real.data.shape[1]] if real.mask is not None else found
        return Signal(torch.where(known, real.data, found.to(real.data)), real.mask, real.position)


def completed_text(
    likelihood: Likelihood,
    modality: TextModality,
    ids: Int[Tensor, "b n"],
    known: Bool[Tensor, "b n"],
    proposed: Tensor,
) -> Int[Tensor, "b n"]:
    """Choose hidden tokens from left to right, by the gradient of log p with respect to the one-hot of each.

        x_t = argmax_v d log p(x) / d x_tv

    which is log p(v | x_<t) and, to first order, what v does to the tokens behind it: what follows a gap is heard too.
    A text does not end before a known token, and padding follows its end.
    """
    n, v = ids.shape[1], modality.vocabulary
    proposed = proposed.argmax(-1) if proposed.ndim == 3 else proposed
    found = torch.where(known, ids, proposed)
    valid = _before_end(torch.where(known, ids, modality.padding), modality.end)
    needed = known & valid & (ids != modality.padding)
    goes_on = needed.flip(1).cumsum(1).flip(1) > 0  # something known stands here or further on
    for t in range(n):
        if bool(known[:, t].all()):
            continue
        ended = ~_before_end(found, modality.end)[:, t]
        score = _gradient(likelihood, one_hot(found, v).float(), t) if t < n - 1 else found.new_zeros(len(found), v)
        score = score.float()
        score[:, modality.padding] = -torch.inf
        score[goes_on[:, t], modality.end] = -torch.inf
        best = score.argmax(-1) if t < n - 1 else torch.full_like(found[:, t], modality.end)
        best = torch.where(ended, modality.padding, best)
        found[:, t] = torch.where(known[:, t], ids[:, t], best)
    return found


def _gradient(likelihood: Likelihood, soft: Tensor, t: int) -> Tensor:
    with torch.enable_grad():
        leaf = soft.requires_grad_()
        (gradient,) = torch.autograd.grad(likelihood.log_prob(Signal(leaf)).sum(), leaf)
    return gradient[:, t]


def _before_end(ids: Int[Tensor, "b n"], end: int) -> Bool[Tensor, "b n"]:
    """Tell which tokens are of a text: all up to and including the first end."""
    ends = ids == end
    return ends.cumsum(1) - ends.long() == 0
