"""What a component is called with: batches to take rows from, poison, pad and mix."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import pad

from fusion_engine.noise import Noise
from fusion_engine.values import Features, Signal, Widths, fill

NAN = float("nan")


@dataclass(frozen=True)
class Case:
    """The inputs of one call; each kind of component reads what it takes.

    Args:
        noise: keys samples; its length is b.
        signal: what an encoder encodes, or a decoder's likelihood is asked about.
        features: the inputs of a fusion, posterior or head, or the conditions of a decoder.
        present: which of the features each row has.
        z: what a decoder decodes.
    """

    noise: Noise
    signal: Signal | None = None
    features: Mapping[str, Features] = field(default_factory=dict)
    present: Bool[Tensor, "b m"] | None = None
    z: Tensor | None = None

    def __len__(self) -> int:
        return len(self.noise.index)

    def take(self, rows: Tensor) -> "Case":
        """Keep rows, in the given order; their noise stays theirs."""
        return Case(
            replace(self.noise, index=self.noise.index[rows]),
            None if self.signal is None else self.signal.take(rows),
            {name: f.take(rows) for name, f in self.features.items()},
            None if self.present is None else self.present[rows],
            None if self.z is None else self.z[rows],
        )

    def keep(self, row: int, other: "Case") -> "Case":
        """Keep one row and take all others from another case."""
        b = len(self)
        both = torch.arange(b) + b
        both[row] = row
        return replace(self._joined(other).take(both), noise=self.noise)

    def _joined(self, other: "Case") -> "Case":
        signal = self.signal
        if signal is not None and other.signal is not None:
            signal = _zip_signals(signal, other.signal)
        return Case(
            replace(self.noise, index=torch.cat([self.noise.index, other.noise.index])),
            signal,
            {n: _zip_features(f, other.features[n]) for n, f in self.features.items()},
            None if self.present is None or other.present is None else torch.cat([self.present, other.present]),
            None if self.z is None or other.z is None else torch.cat([self.z, other.z]),
        )

    def with_present(self, present: Bool[Tensor, "b m"]) -> "Case":
        """Say anew which inputs each row has."""
        return replace(self, present=present)

    def poisoned(self, value: float = NAN) -> "Case":
        """Write a value into whatever is absent or padded; integers get the largest that occurs."""
        features = {
            name: _poison(f, None if self.present is None else self.present[:, i], value)
            for i, (name, f) in enumerate(self.features.items())
        }
        return replace(self, features=features, signal=None if self.signal is None else _poisoned(self.signal, value))

    def padded(self, extra: int) -> "Case":
        """Append padding that holds NaN to every ragged axis."""
        features = {name: _longer(f, extra) for name, f in self.features.items()}
        signal = self.signal
        if signal is not None and signal.mask is not None:
            signal = signal.map(lambda x: _append(x, extra))
        return replace(self, features=features, signal=signal)

    def leaves(self) -> "tuple[Case, dict[str, tuple[Tensor, Tensor]]]":
        """Make float inputs require gradients; return them with their valid slots too."""
        found: dict[str, tuple[Tensor, Tensor]] = {}
        rows = torch.ones(len(self), dtype=torch.bool)
        z = None if self.z is None else _leaf(found, "z", self.z, rows)
        signal = self.signal
        if signal is not None and self.z is None and signal.data.is_floating_point():
            valid = rows if signal.mask is None else signal.mask
            signal = replace(signal, data=_leaf(found, "the signal", signal.data, valid))
        features = {}
        for i, (name, f) in enumerate(self.features.items()):
            here = rows if self.present is None else self.present[:, i]
            tokens = _leaf(found, f"{name}.tokens", f.tokens, f.mask & here[:, None])
            pooled = _leaf(found, f"{name}.pooled", f.pooled, here)
            features[name] = replace(f, tokens=tokens, pooled=pooled)
        return replace(self, z=z, signal=signal, features=features), found


def _leaf(found: dict[str, tuple[Tensor, Tensor]], name: str, x: Tensor, valid: Tensor) -> Tensor:
    found[name] = (x.detach().clone().requires_grad_(), valid)
    return found[name][0]


def _zip_signals(a: Signal, b: Signal) -> Signal:
    pairs = ((a.data, b.data), (a.mask, b.mask), (a.position, b.position))
    return Signal(*(None if x is None or y is None else torch.cat([x, y]) for x, y in pairs))  # type: ignore[arg-type]


def _zip_features(a: Features, b: Features) -> Features:
    position = None if a.position is None or b.position is None else torch.cat([a.position, b.position])
    return Features(
        torch.cat([a.tokens, b.tokens]), torch.cat([a.pooled, b.pooled]), torch.cat([a.mask, b.mask]), position
    )


def _poison(f: Features, here: Tensor | None, value: float) -> Features:
    mask = f.mask if here is None else f.mask & here[:, None]
    pooled = f.pooled if here is None else f.pooled.masked_fill(~here[:, None], value)
    position = None if f.position is None else fill(f.position, mask, value)
    return Features(fill(f.tokens, mask, value), pooled, f.mask, position)


def _poisoned(signal: Signal, value: float) -> Signal:
    content = value if signal.data.is_floating_point() else float(signal.data.max())
    position = None if signal.position is None else fill(signal.position, signal.mask, value)
    return Signal(fill(signal.data, signal.mask, content), signal.mask, position)


def _append(x: Tensor, extra: int) -> Tensor:
    value = NAN if x.is_floating_point() else 0 if x.dtype == torch.bool else int(x.max())
    return pad(x, [0, 0] * (x.ndim - 2) + [0, extra], value=value)


def _longer(f: Features, extra: int) -> Features:
    position = None if f.position is None else _append(f.position, extra)
    return Features(_append(f.tokens, extra), f.pooled, _append(f.mask, extra), position)


def make_features(
    widths: Mapping[str, Widths], b: int = 5, *, lengths: int | list[int] = 3, ragged: bool = False, seed: int = 0
) -> dict[str, Features]:
    """Make random features of the given widths; the first input has positions.

    Args:
        widths: by input.
        b: rows.
        lengths: tokens of each input.
        ragged: let rows differ in how many tokens are valid, from one to all.
        seed: of the numbers.
    """
    g = torch.Generator().manual_seed(seed)
    found = {}
    for i, (name, w) in enumerate(widths.items()):
        n = lengths if isinstance(lengths, int) else lengths[i % len(lengths)]
        valid = torch.arange(n) < (torch.arange(b)[:, None] + i) % n + 1 if ragged else torch.ones(b, n).bool()
        position = torch.rand(b, n, 1, generator=g) if i == 0 else None
        found[name] = Features(
            torch.randn(b, n, w.tokens, generator=g), torch.randn(b, w.pooled, generator=g), valid, position
        )
    return found
