"""The likelihood of a sequence: its continuous and binary channels and its length."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Bernoulli, Normal
from torch.nn.functional import logsigmoid, pad

from fusion_engine import DataError, Likelihood, Noise, Signal, fill


class SequenceLikelihood(Likelihood):
    """p(x, n | z), independent over steps given z, with the length as a hazard.

        log p = sum_{t < n} [ sum_c log p(x_tc) + log(1 - h_t) [t < n - 1] + log h_t [t = n - 1] ]

    where h_t = sigmoid(stop_t) is the chance to end with step t, and h = 1 at the last step that there is, so that the
    lengths' probabilities sum to one. Batch shape [*k b n]: padding is never summed.

    Args:
        values: [*k b n c], means of continuous channels and logits of binary ones.
        stop: [*k b n], logits of the hazard.
        is_binary: [c], which channels are binary.
        scale: the deviation of continuous channels.
    """

    def __init__(
        self,
        values: Float[Tensor, "*k b n c"],
        stop: Float[Tensor, "*k b n"],
        is_binary: Bool[Tensor, " c"],
        scale: float,
    ) -> None:
        self.values, self.stop, self.is_binary, self.scale = values, stop, is_binary, scale

    def log_prob(self, signal: Signal) -> Float[Tensor, "*k b"]:
        """Log density of values and length over the valid steps; a row without any gives 0.

        Raises:
            DataError: the signal has valid steps beyond the longest sequence that this is about.
        """
        data, mask = self._fitted(signal)
        n = data.shape[1]
        values = self.values[..., :n, :]
        continuous: Tensor = Normal(values, self.scale, validate_args=False).log_prob(data)  # type: ignore[no-untyped-call]
        binary: Tensor = Bernoulli(logits=values, validate_args=False).log_prob(data)  # type: ignore[no-untyped-call]
        per_step = torch.where(self.is_binary, binary, continuous).sum(-1)
        return (per_step + self._of_length(mask)).masked_fill(~mask, 0.0).sum(-1)

    def log_length(self, mask: Bool[Tensor, "b n"]) -> Float[Tensor, "*k b"]:
        """Log probability of the lengths alone; a row without any valid step gives 0."""
        mask = mask[:, : self.stop.shape[-1]]
        return self._of_length(mask).masked_fill(~mask, 0.0).sum(-1)

    def _of_length(self, mask: Bool[Tensor, "b n"]) -> Float[Tensor, "*k b n"]:
        """What each valid step says about the length: log(1 - h_t), or log h_t at the end."""
        n = mask.shape[1]
        goes_on = torch.cat([mask[:, 1:], torch.zeros_like(mask[:, :1])], 1)
        return torch.where(goes_on, logsigmoid(-self.stop[..., :n]), self._log_hazard()[..., :n])

    def _log_hazard(self) -> Float[Tensor, "*k b n"]:
        return pad(logsigmoid(self.stop[..., :-1]), (0, 1))

    def _fitted(self, signal: Signal) -> tuple[Float[Tensor, "b n c"], Bool[Tensor, "b n"]]:
        """Fill the padding and cut off what lies beyond the longest sequence."""
        mask = (
            signal.mask
            if signal.mask is not None
            else torch.ones(signal.data.shape[:2], dtype=torch.bool, device=signal.data.device)
        )
        longest = self.stop.shape[-1]
        if mask.shape[1] > longest and bool(mask[:, longest:].any()):
            raise DataError(
                "a sequence is longer than its likelihood",
                expected=f"at most {longest} steps",
                actual=f"{int(mask.sum(1).max())}",
            )
        return fill(signal.data, mask)[:, :longest], mask[:, :longest]

    def sample(self, noise: Noise) -> Signal:
        """Draw values and length; zeros behind the end."""
        *lead, _, n, c = self.values.shape
        normal = self.values + self.scale * noise.at("values").normal(n, c, lead=lead, like=self.values)
        on = (noise.at("binary").uniform(n, c, lead=lead, like=self.values) < self.values.sigmoid()).to(self.values)
        ends = noise.at("length").uniform(n, lead=lead, like=self.stop) < self.stop.sigmoid()
        mask = pad(ends.cumsum(-1)[..., :-1] == 0, (1, 0), value=True)
        return Signal(fill(torch.where(self.is_binary, on, normal), mask), mask)

    @property
    def mean(self) -> Signal:
        """Means of continuous channels, probabilities of binary ones, the median length; values behind it are kept."""
        survival = pad(logsigmoid(-self.stop[..., :-1]).cumsum(-1), (1, 0))
        return Signal(torch.where(self.is_binary, self.values.sigmoid(), self.values), survival.exp() > 0.5)
