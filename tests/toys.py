"""Toy components of a few numbers each, whose formulas fit on one line: a plugin in a single file.

    engine = Engine(plugins=["tests/toys.py"])

Axes: b batch, n tokens, d width, z latent, k samples.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Normal

from fusion_engine import (
    Decoder,
    DistributionLikelihood,
    Encoder,
    Features,
    Likelihood,
    Media,
    Modality,
    Noise,
    Registry,
    Signal,
    Widths,
    fill,
    hookimpl,
    require,
)

Positive = Annotated[int, Field(ge=1)]


def written(rows: Tensor) -> list[Media]:
    """Write each row's numbers down."""
    return [Media("text/plain", repr(row.tolist()).encode()) for row in rows]


class Vector(Modality):
    """A vector of floats, data [b d], never padded.

    Args:
        size: d.
    """

    encoder: ClassVar[str] = "encoder/toys.mlp"
    decoder: ClassVar[str] = "decoder/toys.mlp"
    augmentations: ClassVar[tuple[str, ...]] = ("stretch", "move")

    def __init__(self, *, size: Positive = 3) -> None:
        self.width = size

    @property
    def size(self) -> int:
        """d."""
        return self.width

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn d."""
        return {"size": len(next(iter(samples)))}

    def prepare(self, raw: Any) -> Signal:
        """Make a tensor of a list."""
        data = torch.as_tensor(raw, dtype=torch.float32)
        require(data.shape == (self.width,), "another size", expected=f"[{self.width}]", actual=f"{list(data.shape)}")
        return Signal(data)

    def restore(self, signal: Signal) -> list[Any]:
        """Make lists of tensors."""
        rows: list[Any] = signal.data.tolist()
        return rows

    def example(self, b: int) -> Signal:
        """Draw standard normal numbers, the same at each call."""
        return Signal(torch.randn(b, self.width, generator=torch.Generator().manual_seed(self.width)))

    def render(self, signal: Signal) -> list[Media]:
        """Write each row down."""
        return written(signal.data)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Multiply each number by 1/2 to 3/2, or add 0 to 1 to all of them."""
        if name == "stretch":
            return Signal(signal.data * (0.5 + noise.uniform(self.width, like=signal.data)))
        if name == "move":
            return Signal(signal.data + noise.uniform(1, like=signal.data))
        return super().augment(signal, name, noise)


class Ragged(Modality):
    """One to ``length`` floats in a row, data [b n 1], mask [b n]; padding of an example is NaN.

    Args:
        length: n at most.
    """

    encoder: ClassVar[str] = "encoder/toys.bag"
    decoder: ClassVar[str] = "decoder/toys.line"

    def __init__(self, *, length: Positive = 4) -> None:
        self.length = length

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn the longest."""
        return {"length": max(len(s) for s in samples)}

    def prepare(self, raw: Any) -> Signal:
        """Make a tensor of a list."""
        data = rearrange(torch.as_tensor(raw, dtype=torch.float32), "n -> n 1")
        return Signal(data, torch.ones(len(data), dtype=torch.bool))

    def restore(self, signal: Signal) -> list[Any]:
        """Make lists of tensors, without their padding."""
        assert signal.mask is not None
        return [x[m, 0].tolist() for x, m in zip(signal.data, signal.mask, strict=True)]

    def example(self, b: int) -> Signal:
        """Draw rows of every length in turn, the same at each call."""
        data = torch.randn(b, self.length, 1, generator=torch.Generator().manual_seed(self.length))
        lengths = torch.arange(b) % self.length + 1
        mask = torch.arange(self.length) < lengths[:, None]
        return Signal(fill(data, mask, torch.nan), mask)

    def render(self, signal: Signal) -> list[Media]:
        """Write each row down."""
        return written(signal.filled())


class TwoLayers(nn.Module):
    """second(tanh(first(x)))."""

    def __init__(self, d_in: int, hidden: int, d_out: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(d_in, hidden), nn.Linear(hidden, d_out)

    def forward(self, x: Tensor) -> Tensor:
        """Two layers."""
        out: Tensor = self.second(torch.tanh(self.first(x)))
        return out


class VectorEncoder(Encoder):
    """pooled = net(x), which is also the only token."""

    def __init__(self, modality: Vector, *, width: Positive = 3, hidden: Positive = 4) -> None:
        super().__init__(modality, width)
        self.net = TwoLayers(modality.size, hidden, width)

    def encode(self, x: Float[Tensor, "b d"], signal: Signal) -> Features:
        """Encode."""
        return Features.of_pooled(self.net(x))


class VectorDecoder(Decoder):
    """p(x | z) = Normal(net([z, conditions]), 1)."""

    def __init__(
        self, latent: int, modality: Vector, conditions: Mapping[str, Widths] | None = None, *, hidden: Positive = 4
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.net = TwoLayers(self.inputs_width, hidden, modality.size)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode."""
        loc = self.net(self.joined(z, conditions))
        return DistributionLikelihood(Normal(loc, torch.ones_like(loc), validate_args=False), z.ndim - 2)


class BagEncoder(Encoder):
    """tokens = net(x_t); pooled is their mean over the valid ones: the order is lost."""

    def __init__(self, modality: Ragged, *, width: Positive = 3, hidden: Positive = 4) -> None:
        super().__init__(modality, width)
        self.net = TwoLayers(1, hidden, width)

    def encode(self, x: Float[Tensor, "b n 1"], signal: Signal) -> Features:
        """Encode; padding is overwritten first."""
        return Features.of_tokens(self.net(fill(x, signal.mask)), signal.mask)


class LineLikelihood(Likelihood):
    """Normal(loc, 1) at each of n places, loc [*k b n 1]; padding counts nothing."""

    def __init__(self, loc: Float[Tensor, "*k b n 1"]) -> None:
        self.normal = Normal(loc, torch.ones_like(loc), validate_args=False)

    def log_prob(self, signal: Signal) -> Float[Tensor, "*k b"]:
        """Sum over the valid places; a batch may be padded to fewer than there are."""
        assert signal.mask is not None
        loc = self.normal.loc[..., : signal.mask.shape[1], :]
        values = Normal(loc, 1.0, validate_args=False).log_prob(signal.filled())[..., 0]
        return values.masked_fill(~signal.mask, 0.0).sum(-1)

    def sample(self, noise: Noise) -> Signal:
        """Draw; every place is valid."""
        *lead, _, n, _ = self.normal.loc.shape
        return self._whole(self.normal.loc + noise.normal(n, 1, lead=lead, like=self.normal.loc))

    @property
    def mean(self) -> Signal:
        """The mean; every place is valid."""
        return self._whole(self.normal.loc)

    @staticmethod
    def _whole(data: Tensor) -> Signal:
        return Signal(data, torch.ones(data.shape[:-1], dtype=torch.bool))


class LineDecoder(Decoder):
    """p(x_t | z) = Normal(net([z, conditions])_t, 1): one output of the net a place."""

    def __init__(
        self, latent: int, modality: Ragged, conditions: Mapping[str, Widths] | None = None, *, hidden: Positive = 4
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.net = TwoLayers(self.inputs_width, hidden, modality.length)

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode."""
        return LineLikelihood(rearrange(self.net(self.joined(z, conditions)), "... n -> ... n 1"))


@hookimpl
def register_components(registry: Registry) -> None:
    """Register everything."""
    registry.modality("vector", Vector)
    registry.modality("ragged", Ragged)
    registry.encoder("mlp", VectorEncoder)
    registry.encoder("bag", BagEncoder)
    registry.decoder("mlp", VectorDecoder)
    registry.decoder("line", LineDecoder)
