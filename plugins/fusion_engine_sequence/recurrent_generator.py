"""A recurrent generator with fresh noise as time goes on: C-RNN-GAN and RCGAN.

Mogren, 2016, arXiv:1611.09904 (noise at every step); Esteban, Hyland and Rätsch, 2017, arXiv:1706.02633 (and the
condition at every step).
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import ConfigError, Decoder, Features, Likelihood, SequenceModality, Widths, over_samples
from fusion_engine_sequence.likelihood import SequenceLikelihood
from fusion_engine_sequence.recurrent import Cell, recurrent

Positive = Annotated[int, Field(ge=1)]


class RecurrentGenerator(Decoder):
    """Run a GRU or LSTM over noise: each step sees the shared part of z, the conditions, and noise of its own.

        z = [g, e_1 .. e_k],  k = ceil(steps / every)        z: global + k * noise numbers
        h_t = rnn(h_{t-1}, linear([g, conditions, e_ceil(t / every)]) + position_t)
        (mean_t, logits_t, stop_t) = linear(h_t)

    All that is random comes from z, so that the same z gives the same sequence. Wire two priors to the port z, the
    shared one first: ``in: {z: [noise, noise_steps]}``, the second of width k * noise. The shared part is what is left
    of z; it may be empty. Noise beyond the modality's length is left unused. An absent condition is zero.
    z [*k b z] -> sequences [*k b n c] with n the modality's length; how long each is says the hazard sigmoid(stop_t),
    which an adversary cannot teach (see ``loss/length``).

    Args:
        latent: the width of z.
        modality: the sequences.
        conditions: whose pooled vectors join each step.
        noise: numbers a draw.
        every: how many steps share a draw: 1 for noise of each step's own, 8 for that of a bar of eight.
        steps: for how many steps z holds noise; default the modality's length. Set it where the length is learned from
            data while the width of z is not.
        cell: gru or lstm.
        width: of the state.
        layers: stacked on one another.
        scale: the deviation of continuous channels, in units of the prepared data.

    Raises:
        ConfigError: z is too narrow for the noise, or has none for the last steps of the longest sequence.
    """

    def __init__(
        self,
        latent: int,
        modality: SequenceModality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        noise: Positive = 1,
        every: Positive = 1,
        steps: Positive | None = None,
        cell: Cell = "gru",
        width: Positive = 64,
        layers: Positive = 1,
        scale: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.noise, self.every, self.scale = noise, every, scale
        self.own = noise * _draws(modality.length, steps or modality.length, every)
        self.shared = latent - self.own
        _check_width(self.shared, self.own, noise, every)
        is_binary = torch.tensor([i in modality.binary for i in range(modality.channels)])
        self.is_binary: Tensor
        self.register_buffer("is_binary", is_binary, persistent=False)
        self.linear = nn.Linear(self.inputs_width - self.own + noise, width)
        self.position = nn.Parameter(torch.randn(modality.length, width))
        self.layers = nn.ModuleList(recurrent(cell, width, width) for _ in range(layers))
        self.out = nn.Linear(width, modality.channels + 1)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode into values and a hazard a step."""
        outputs = over_samples(self._steps, self.joined(z, conditions))
        return SequenceLikelihood(outputs[..., :-1], outputs[..., -1], self.is_binary, self.scale)

    def _steps(self, joined: Float[Tensor, "r d"]) -> Float[Tensor, "r n o"]:
        shared, own, given = joined.split([self.shared, self.own, joined.shape[-1] - self.latent], -1)  # type: ignore[no-untyped-call]
        fresh = repeat(own, "r (k e) -> r (k every) e", e=self.noise, every=self.every)[:, : len(self.position)]
        constant = repeat(torch.cat([shared, given], -1), "r d -> r n d", n=len(self.position))
        states = self.linear(torch.cat([constant, fresh], -1)) + rearrange(self.position, "n d -> 1 n d")
        for layer in self.layers:
            states = layer(states)[0]
        out: Tensor = self.out(states)
        return out


def _draws(length: int, steps: int, every: int) -> int:
    """Count the draws that ``steps`` steps take."""
    if steps < length:
        raise ConfigError(
            "there is no noise for the last steps of the longest sequence",
            expected=f"`steps` of at least {length}, the modality's length",
            actual=str(steps),
            fix="raise `steps`, and the width of the noise with it, or cut the sequences",
        )
    return -(-steps // every)


def _check_width(shared: int, own: int, noise: int, every: int) -> None:
    if shared < 0:
        raise ConfigError(
            "z is too narrow for noise as time goes on",
            expected=f"at least {own} = {own // noise} draws of {noise}, each for {every} steps, and what is shared",
            actual=f"{own + shared}",
            fix="wire a second prior of that width to the port z, or lower `noise`, or raise `every`",
        )
