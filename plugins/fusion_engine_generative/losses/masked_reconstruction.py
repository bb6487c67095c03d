"""Reconstruction of whole samples from samples with a hidden part: Pathak et al., CVPR 2016, arXiv:1604.07379."""

from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from fusion_engine import (
    ConfigError,
    Graph,
    ImageModality,
    Loss,
    Modality,
    Player,
    Rows,
    Run,
    Signal,
    Term,
    TextModality,
    hide,
)
from fusion_engine_generative.losses.reconstruction import Reconstruction


class MaskedReconstruction(Loss):
    """Infer z from samples of which a part is hidden, and reconstruct all of them.

        row = - sum_m w_m (D / d_m) log p(x_m given z),  z ~ q(z given the x_m without their hidden parts)

    It trains for ``model.inpaint``. Hidden are a rectangle of an image, of the image's proportions, else a span of
    steps, frames or tokens within each row's own length, of a share that is uniform between ``least`` and ``most``; a
    label or one number stays. Each modality has parts of its own. At least one step or pixel stays. Modalities that a
    row lacks are left out, as in ``loss/reconstruction``, beside which it stands.
    Routing: encoders, posteriors and decoders receive it, the discriminator never.
    Axes: b batch, n steps, h w of an image.

    Args:
        least: the smallest share of a sample that is hidden.
        most: the largest.
        weight: of the term.
        weights: w_m by modality, 1 where not named.
        balance: whether to apply D / d_m, the largest size of a modality over its own.
        nodes: which decoders (globs).

    Raises:
        ConfigError: ``least`` exceeds ``most``. BuildError: as ``loss/reconstruction``.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        least: Annotated[float, Field(gt=0, lt=1)] = 0.1,
        most: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        weight: Annotated[float, Field(ge=0)] = 1.0,
        weights: dict[str, Annotated[float, Field(ge=0)]] | None = None,
        balance: bool = True,
        nodes: list[str] | None = None,
    ) -> None:
        super().__init__(graph, ["generator"], weight)
        if least > most:
            raise ConfigError("`least` exceeds `most`", expected=f"at most {most}", actual=str(least))
        self.least, self.most, self.modalities = least, most, graph.modalities
        self.whole = Reconstruction(graph, weights=weights, balance=balance, nodes=nodes)

    def rows(self, run: Run, player: Player) -> Rows:
        """Those that count in a reconstruction."""
        return self.whole.rows(run, player)

    def forward(self, run: Run, player: Player) -> Term:
        """Reconstruct the batch from a replay with hidden parts."""
        hidden = {name: self._hidden(run, name, modality) for name, modality in self.modalities.items()}
        return self.whole.forward(run.replay(hidden, label=("masked",)), player)

    def _hidden(self, run: Run, name: str, modality: Modality) -> Signal:
        signal = run.batch.signals[name]
        if signal.data[0].numel() < 2:
            return signal
        noise = run.noise("masked_reconstruction", name)
        drawn = noise.uniform(3).to(signal.data.device)
        share = self.least + (self.most - self.least) * drawn[:, 0]
        if isinstance(modality, ImageModality):
            sides = [span(n, share.sqrt(), drawn[:, i + 1]) for i, n in enumerate(modality.shape[1:])]
            known = ~(sides[0][:, None, :, None] & sides[1][:, None, None, :])
        else:
            known = ~span(lengths(signal, modality), share, drawn[:, 1], signal.data.shape[1])
            known = known.reshape(*known.shape, *[1] * (signal.data.ndim - 2))
        return hide(signal, known.expand(signal.data.shape), modality)


def lengths(signal: Signal, modality: Modality) -> Tensor:
    """Return each row's own number of steps [b]: its valid ones, or the tokens of a text up to its end."""
    b, n = signal.data.shape[:2]
    if isinstance(modality, TextModality) and not signal.data.is_floating_point():
        ends = signal.data == modality.end
        return torch.where(ends.any(1), ends.long().argmax(1) + 1, n)
    return torch.full([b], n, device=signal.data.device) if signal.mask is None else signal.mask.sum(1)


def span(
    n: int | Tensor, share: Float[Tensor, " b"], place: Float[Tensor, " b"], size: int | None = None
) -> Bool[Tensor, "b n"]:
    """Choose a contiguous part of n places, one at least and all but one at most: True in it."""
    total = torch.as_tensor(n, device=share.device).expand(share.shape)
    count = (share * total).round().clamp(min=1).minimum((total - 1).clamp(min=0))
    start = (place * (total - count + 1)).floor()
    at = torch.arange(size or int(total.max()), device=share.device)
    return (at >= start[:, None]) & (at < (start + count)[:, None])
