"""The abstract kinds of component. A plugin subclasses these; each subclass is final.

Positional constructor arguments are wiring and come from the graph. Keyword-only ones are the component's config:
their type hints, with ranges such as ``Annotated[int, Field(ge=1)]``, become a strict pydantic model.

Axes: b batch, n tokens, d width, z latent, k samples, m inputs.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusion_engine.errors import ConfigError, DataError, nearest
from fusion_engine.kinds import KINDS as KINDS
from fusion_engine.likelihoods import Likelihood
from fusion_engine.noise import Noise
from fusion_engine.values import Features, Media, Posterior, Signal, Widths, fill


class Modality(ABC):
    """One named kind of data: how raw samples become tensors and back.

    A modality is a pure function of its config. ``fit`` returns the keys of that config that are learned from training
    data (shape, unit deviation, classes), so that a saved config holds them all.
    """

    encoder: ClassVar[str]
    """The encoder used where none is named, such as ``encoder/image.conv``."""
    decoder: ClassVar[str]
    """The decoder used where none is named."""
    augmentations: ClassVar[tuple[str, ...]] = ()
    """The names that ``augment`` takes: changes that a discriminator may see its data through."""

    @abstractmethod
    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn config keys from raw training samples (missing ones are left out by the caller).

        Raises:
            DataError: the samples do not fit together or do not fit what the config says.
        """

    @abstractmethod
    def prepare(self, raw: Any) -> Signal:
        """Turn one raw sample into a signal without the batch axis: data [...], mask [n].

        Raises:
            DataError: the sample does not fit; the message says what was expected and what was found.
        """

    @abstractmethod
    def restore(self, signal: Signal) -> list[Any]:
        """Turn a batch of signals back into raw samples, the inverse of ``prepare``."""

    @abstractmethod
    def example(self, b: int) -> Signal:
        """Make a batch of random signals of the right shape and type; ragged where the modality is."""

    @abstractmethod
    def render(self, signal: Signal) -> list[Media]:
        """Draw each row for people: PNG, WAV, SVG or text."""

    def collate(self, samples: Sequence[Signal]) -> Signal:
        """Stack prepared samples; masked ones are padded with zeros to the longest."""
        masks = [s.mask for s in samples]
        if any(m is None for m in masks):
            return Signal(torch.stack([s.data for s in samples]))
        n = max(len(m) for m in masks if m is not None)

        def pad(x: Tensor) -> Tensor:
            return torch.cat([x, x.new_zeros(n - len(x), *x.shape[1:])]) if len(x) < n else x

        position = None
        if all(s.position is not None for s in samples):
            position = torch.stack([pad(s.position) for s in samples if s.position is not None])
        return Signal(
            torch.stack([pad(s.data) for s in samples]), torch.stack([pad(m) for m in masks if m is not None]), position
        )

    @property
    def size(self) -> int:
        """How many numbers one sample holds at most: what reconstruction losses balance modalities by."""
        return self.example(1).data[0].numel()

    def blank(self) -> Signal:
        """One prepared sample that stands in for a missing one; nothing of it is ever seen."""
        return self.example(1).map(lambda x: torch.zeros_like(x[0]))

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Draw a differentiable signal, with the mask of the paired real one where there is one.

        Continuous data: the mean (its noise is the model's error, not the data's). Discrete modalities override this.
        """
        mean = likelihood.mean
        if like is None:
            return mean
        if like.mask is None or mean.data.shape[1:2] == like.data.shape[1:2]:
            return Signal(fill(mean.data, like.mask), like.mask, like.position)
        data = torch.zeros_like(like.data, dtype=mean.data.dtype)
        n = min(data.shape[1], mean.data.shape[1])
        data = torch.cat([mean.data[:, :n], data[:, n:]], 1)
        return Signal(fill(data, like.mask), like.mask, like.position)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        """Change every row at random, differentiably (also twice), real and generated ones alike.

        What is drawn comes from the noise alone, and a row's change depends on neither its batch-mates nor its padding.
        Shapes, types and masks stay, and padded slots keep what they hold.

        Raises:
            ConfigError: it is none of ``augmentations``.
        """
        raise ConfigError(f"there is no augmentation {name!r}", fix=nearest(name, self.augmentations))


class ImageModality(Modality):
    """Signals [b c h w] without a mask. Encoders and decoders of images annotate their modality with this."""

    shape: tuple[int, int, int]
    """(c, h, w)"""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The least and the greatest value of prepared data, where they are known."""
        return None

    @property
    def size(self) -> int:
        """The number of values c h w."""
        return math.prod(self.shape)


class SequenceModality(Modality):
    """Ragged signals [b n c] with mask [b n], in order of time."""

    channels: int
    length: int
    """The longest sequence, in steps."""
    binary: tuple[int, ...]
    """The channels that hold 0 or 1; the others are continuous."""

    @property
    def size(self) -> int:
        """The number of values of the longest sequence."""
        return self.length * self.channels


class CategoryModality(Modality):
    """Labels [b] (integers), or their relaxation [b v] (soft one-hot). No mask."""

    classes: Sequence[str | int | bool]
    """The raw label of each index."""

    @property
    def size(self) -> int:
        """One."""
        return 1


class TagsModality(Modality):
    """Sets of labels [b v] (0 or 1 a class), or their relaxation in [0, 1]. No mask."""

    classes: Sequence[str | int | bool]
    """The raw label of each index."""

    @property
    def size(self) -> int:
        """The number of classes v."""
        return len(self.classes)


class NumberModality(Modality):
    """Numbers [b c], c of them a sample, in order. No mask."""

    channels: int

    @property
    def size(self) -> int:
        """The number of channels c."""
        return self.channels


class TextModality(Modality):
    """Token ids [b n] (integers), or their relaxation [b n v] (soft one-hot). No mask: n is always ``length``.

    A text ends with the token ``end``, and ``padding`` follows. Both are tokens like any other, so that a generator
    decides how long its text is, and a discriminator sees what it decided.
    """

    vocabulary: int
    """v, the number of tokens."""
    length: int
    """n, the most tokens of a text, its end included."""
    end: int
    padding: int

    @property
    def size(self) -> int:
        """The number of tokens of the longest text."""
        return self.length


class SpectrogramModality(Modality):
    """Log-magnitude spectrograms [b t f] of one duration: t frames of f frequency bands. No mask: silence is data."""

    frames: int
    bands: int
    sample_rate: int

    @property
    def size(self) -> int:
        """The number of values t f."""
        return self.frames * self.bands


class WaveformModality(Modality):
    """Sounds [b t] of one duration, one channel. No mask: silence is data."""

    samples: int
    sample_rate: int

    @property
    def size(self) -> int:
        """The number of samples."""
        return self.samples


class Encoder(nn.Module, ABC):
    """Signal -> features. The graph calls it on the rows that have the modality and scatters its output back.

    Args:
        modality: what it encodes; a subclass annotates the family it takes, and that is checked before construction.
        widths: what ``encode`` returns.
    """

    unused_parameters: ClassVar[Mapping[str, str]] = {}
    """Parameters (glob patterns) that may stay without a gradient, each with the reason."""

    def __init__(self, modality: Modality, widths: Widths | tuple[int, int] | int) -> None:
        super().__init__()
        self.modality = modality
        self.widths = as_widths(widths)

    def embed(self, data: Tensor) -> Tensor:
        """Turn data into what gradient penalties are taken on: itself, or an embedding of discrete (also soft) data."""
        return data

    @abstractmethod
    def encode(self, x: Tensor, signal: Signal) -> Features:
        """Encode x, which is ``embed(signal.data)``; mask and position are the signal's. Fill padding first."""

    def forward(self, signal: Signal) -> Features:
        """Embed, then encode."""
        return self.encode(self.embed(signal.data), signal)


def as_widths(widths: Widths | tuple[int, int] | int) -> Widths:
    """Read one number as the width of both tokens and pooled vector."""
    return Widths(widths, widths) if isinstance(widths, int) else Widths(*widths)


class TakesFeatures(nn.Module, ABC):
    """Shared by fusions, posteriors and heads: several named features in, with who is present."""

    unused_parameters: ClassVar[Mapping[str, str]] = {}
    min_inputs: ClassVar[int] = 1
    max_inputs: ClassVar[int | None] = None

    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__()
        self.inputs = dict(inputs)

    def pooled(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> list[Float[Tensor, "b d"]]:
        """Return one vector an input, in wiring order, zero where it is absent whatever the slot holds."""
        return [features[name].pooled.masked_fill(~present[:, i, None], 0.0) for i, name in enumerate(self.inputs)]

    def tokens(
        self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]
    ) -> list[tuple[Float[Tensor, "b n d"], Bool[Tensor, "b n"]]]:
        """Return (tokens, mask) an input; padding and absent inputs are zero and masked."""
        found = []
        for i, name in enumerate(self.inputs):
            mask = features[name].mask & present[:, i, None]
            found.append((fill(features[name].tokens, mask), mask))
        return found


class Fusion(TakesFeatures):
    """Features of several -> features of one.

    Args:
        inputs: the widths of each input, by node name.
        widths: what it returns.
    """

    def __init__(self, inputs: Mapping[str, Widths], widths: Widths | tuple[int, int] | int) -> None:
        super().__init__(inputs)
        self.widths = as_widths(widths)

    @abstractmethod
    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; present [b m] follows the order of the inputs. A row with nothing present gives finite output."""


class Prior(nn.Module, ABC):
    """A distribution of z: called with b, it returns a Posterior whose z is its mean; the graph samples it.

    As a node without inputs it is a GAN's noise. As a node with ``of: post`` it is one of two things. One that ``fits``
    is fitted to that posterior's latents after training, and generation draws from it. One that ``trains`` is p(z) of
    that posterior during training, in place of the posterior's own prior: its KL and draws use it, its parameters learn
    with the generator's, and a row in which the posterior has nothing takes z from it. Both may stand side by side.
    """

    unused_parameters: ClassVar[Mapping[str, str]] = {}
    fits: ClassVar[bool] = False
    """True where ``fit`` learns something; such a prior may be wired ``of`` one posterior or several."""
    trains: ClassVar[bool] = False
    """True where it learns with the posterior that it is wired ``of``."""
    draws: int = 1
    """How many draws of the posteriors a row ``fit`` is given."""
    candidates: int = 1
    """Of how many ``proposals`` a row generation keeps the best."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.latent = latent

    @abstractmethod
    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows."""

    def fit(self, latents: Float[Tensor, "b z"]) -> None:
        """Learn from latents; a fixed prior has nothing to learn. What is learned is kept in buffers."""

    def proposals(self, noise: Noise, k: int) -> Float[Tensor, "k b z"]:
        """Draw k values of z a row for generation to choose from; the first is what is drawn where there is no choice.

        By default they are independent; a mixture takes those of a row from one component.
        """
        prior = self(len(noise.index))
        return torch.stack([prior.sampled(noise.at("candidate", i) if i else noise).z for i in range(k)])

    def infer(self, posterior: Posterior) -> Posterior:
        """Say what a trained model infers from a row with this prior in place of the one that it was trained with.

        By default q(z given x) stays what it is.

        Args:
            posterior: one component a row, of what this prior is fitted to; of several, their latents concatenated.
        """
        return posterior


Infer = Callable[[Mapping[str, Features], Tensor], Posterior]
"""A posterior's network as its prior sees it: (features, present [b m]) -> Posterior, not sampled."""


class PosteriorPrior(Prior):
    """A prior made of the posterior that it is ``of``, as the VampPrior is. It trains with it.

    It owns none of the posterior's parameters: the graph hands it the network, as a function, at every call.

    Args:
        inputs: the widths of that posterior's inputs, by node name.
        latent: the width of z.
    """

    trains = True

    def __init__(self, inputs: Mapping[str, Widths], latent: int) -> None:
        super().__init__(latent)
        self.inputs = dict(inputs)

    @abstractmethod
    def of(self, infer: Infer, b: int) -> Posterior:
        """Return the prior for b rows, made of what the posterior infers where it is asked to."""

    def forward(self, b: int, infer: Infer) -> Posterior:  # type: ignore[override]  # the graph knows which it calls
        """Return the prior for b rows."""
        return self.of(infer, b)


class PosteriorNetwork(TakesFeatures):
    """Features -> Posterior, q(z given x). It owns its prior: drawing from that runs no encoder.

    Args:
        inputs: the widths of each input, by node name.
        latent: the width of z.
        prior: p(z) during training, unless a prior node that trains is wired ``of`` this one.
    """

    def __init__(self, inputs: Mapping[str, Widths], latent: int, prior: Prior) -> None:
        super().__init__(inputs)
        self.latent = latent
        self.prior = prior

    @abstractmethod
    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer; z is the mean (the graph samples it). A row with nothing present has the prior."""


class Decoder(nn.Module, ABC):
    """z (and conditions) -> a likelihood over a signal. It is also the generator.

    Args:
        latent: the width of z; several latents on the port arrive concatenated.
        modality: what it decodes; a subclass annotates the family it makes.
        conditions: the widths of each condition, by port name.
    """

    unused_parameters: ClassVar[Mapping[str, str]] = {}
    density: ClassVar[bool] = True
    """False for a generator that only has samples: reconstruction losses on it are refused at build time."""

    def __init__(self, latent: int, modality: Modality, conditions: Mapping[str, Widths] | None = None) -> None:
        super().__init__()
        self.latent = latent
        self.modality = modality
        self.conditions = dict(conditions or {})

    @property
    def inputs_width(self) -> int:
        """The width of z with every condition's pooled vector behind it: what ``joined`` returns."""
        return self.latent + sum(w.pooled for w in self.conditions.values())

    def joined(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Float[Tensor, "*k b d"]:
        """Concatenate z with the pooled conditions, spread over the sample axes; an absent condition is zero."""
        vectors = [conditions[name].pooled for name in self.conditions]
        return torch.cat([z, *(v.expand(*z.shape[:-1], v.shape[-1]) for v in vectors)], -1)

    @abstractmethod
    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode; leading sample axes pass through."""


def over_samples(function: Callable[[Tensor], Tensor], x: Float[Tensor, "*k b d"]) -> Tensor:
    """Apply a function of [r d] to [*k b d] by folding the sample axes into the rows."""
    lead = x.shape[:-1]
    out = function(x.reshape(math.prod(lead), x.shape[-1]))
    return out.reshape(*lead, *out.shape[1:])


class Head(TakesFeatures):
    """Features -> logits, values or a realness score [b o].

    Args:
        inputs: the widths of each input, by node name.
        modality: what it predicts, where the node says ``out``; None for a score.
        outputs: o.
    """

    realness: ClassVar[bool] = False
    """True for a head that scores how real its input is: it makes the nodes before it a discriminator."""
    predicts: ClassVar[bool] = False
    """True for a head that predicts a modality and needs ``out``."""

    def __init__(self, inputs: Mapping[str, Widths], modality: Modality | None, outputs: int) -> None:
        super().__init__(inputs)
        self.modality = modality
        self.outputs = outputs

    @abstractmethod
    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b o"]:
        """Score or predict each row; a row with nothing present gives finite output."""

    def probabilities(self, output: Float[Tensor, "b o"]) -> Float[Tensor, "b v"]:
        """Turn what the head returned into a probability a class; by default the softmax of logits.

        Raises:
            FusionError: it predicts what has no classes.
        """
        return output.softmax(-1)

    def decide(self, output: Float[Tensor, "b o"]) -> Signal:
        """Turn what the head returned into a signal that its modality restores; by default the likeliest class."""
        return Signal(self.probabilities(output).argmax(-1))


class Dataset(ABC):
    """A named source of raw samples: rows are {modality: raw sample or None}."""

    @property
    @abstractmethod
    def train(self) -> Sequence[Mapping[str, Any]]:
        """The rows to learn from."""

    @property
    @abstractmethod
    def validation(self) -> Sequence[Mapping[str, Any]]:
        """The rows to choose by; may be empty."""

    @property
    @abstractmethod
    def test(self) -> Sequence[Mapping[str, Any]]:
        """The rows to report on."""

    def labels(self, modality: str, raw: Any) -> frozenset[Any] | None:
        """Return the labels that a sample may stand for, where that can be read off it: "an odd digit" names five.

        None, the default, leaves it to a judge. A malformed sample stands for none.
        """
        return None


def require(condition: bool, problem: str, *, expected: str, actual: str, fix: str | None = None) -> None:
    """Check a raw sample.

    Raises:
        DataError: the condition does not hold.
    """
    if not condition:
        raise DataError(problem, expected=expected, actual=actual, fix=fix)
