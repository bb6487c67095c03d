"""Components that are wrong, each in one way that happens, and the rule that each breaks."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import one_hot

from fusion_engine import (
    CategoryModality,
    ConfigError,
    Dataset,
    Decoder,
    DistributionLikelihood,
    Encoder,
    Features,
    Fusion,
    Head,
    Likelihood,
    Loss,
    Media,
    Modality,
    Noise,
    Posterior,
    PosteriorNetwork,
    Samples,
    SequenceModality,
    Signal,
    Term,
    Widths,
    fill,
)
from fusion_engine.testing import ToySequence, ToyVector
from fusion_engine.testing.toy_networks import MaskedNormal, ToyPrior

WRONG: list[tuple[Any, str]] = []


def breaks(rule):
    """Note which rule a component breaks."""

    def note(component):
        WRONG.append((component, rule))
        return component

    return note


# Fusions


class _Sum(Fusion):
    """A right one: the sum of one Linear an input."""

    def __init__(self, inputs: Mapping[str, Widths], *, width: Annotated[int, Field(ge=1)] = 4) -> None:
        super().__init__(inputs, width)
        self.linears = nn.ModuleList(nn.Linear(w.pooled, width) for w in inputs.values())

    def fuse(self, vectors):
        return sum(linear(x) for linear, x in zip(self.linears, vectors, strict=True))

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Features:
        return Features.of_pooled(self.fuse(self.pooled(features, present)))


@breaks("signature")
class PositionalConfig(_Sum):
    def __init__(self, inputs: Mapping[str, Widths], width: int) -> None:
        super().__init__(inputs, width=width)


@breaks("signature")
class NoHint(_Sum):
    def __init__(self, inputs: Mapping[str, Widths], *, width=4) -> None:
        super().__init__(inputs, width=width)


@breaks("signature")
class Abstract(Fusion):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs, 4)


@breaks("declared-output")
class WiderThanDeclared(_Sum):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.widths = Widths(5, 4)


@breaks("declared-output")
class FloatMask(_Sum):
    def forward(self, features, present):
        fused = super().forward(features, present)
        return Features(fused.tokens, fused.pooled, fused.mask.float())


@breaks("declared-output")
class Raises(_Sum):
    def forward(self, features, present):
        raise ValueError("no such thing")


@breaks("parameters-registered")
class PythonList(_Sum):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.factors = [nn.Parameter(torch.ones(4)) for _ in inputs]

    def fuse(self, vectors):
        return sum(f * linear(x) for f, linear, x in zip(self.factors, self.linears, vectors, strict=True))


@breaks("parameters-registered")
class LayersInMapping(_Sum):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.more = {"a": {"b": (nn.Linear(4, 4),)}}

    def fuse(self, vectors):
        return self.more["a"]["b"][0](super().fuse(vectors))


@breaks("parameters-registered")
class MadeInForward(_Sum):
    def fuse(self, vectors):
        fused = super().fuse(vectors)
        if not isinstance(getattr(self, "scale", None), nn.Parameter):
            self.scale = nn.Parameter(torch.ones(fused.shape[-1]))
        return fused * self.scale


@breaks("parameters-registered")
class Lazy(_Sum):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.last = nn.LazyLinear(4)

    def fuse(self, vectors):
        return self.last(super().fuse(vectors))


@breaks("parameters-registered")
class HiddenState(_Sum):
    def state_dict(self, *args, **kwargs):
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if "bias" not in k}


@breaks("no-global-random")
class DrawsInEval(_Sum):
    def fuse(self, vectors):
        fused = super().fuse(vectors)
        return fused + 0.1 * torch.randn_like(fused)


@breaks("no-global-random")
class SeedsTheWorld(_Sum):
    def fuse(self, vectors):
        torch.manual_seed(0)
        return super().fuse(vectors)


@breaks("no-global-random")
class DrawsFromNumpy(_Sum):
    def fuse(self, vectors):
        return super().fuse(vectors) + float(np.random.rand())


@breaks("config-round-trip")
class ChangesItsConfig(_Sum):
    def __init__(
        self, inputs: Mapping[str, Widths], *, width: Annotated[int, AfterValidator(lambda x: 2 * x)] = 4
    ) -> None:
        super().__init__(inputs, width=width)


@breaks("config-round-trip")
class UnsavedProjection(_Sum):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.register_buffer("mixer", torch.randn(4, 4), persistent=False)

    def fuse(self, vectors):
        return super().fuse(vectors) @ self.mixer


@breaks("train-eval-agree")
class DoublesInTraining(_Sum):
    def fuse(self, vectors):
        return super().fuse(vectors) * (2 if self.training else 1)


@breaks("row-independence")
class AttendsAcrossTheBatch(_Sum):
    def fuse(self, vectors):
        x = super().fuse(vectors)
        return (x @ x.T).softmax(-1) @ x


@breaks("row-independence")
class CentresTheBatch(_Sum):
    def fuse(self, vectors):
        x = super().fuse(vectors)
        return x - x.mean(0) * (len(x) > 1)


@breaks("row-independence")
class CountsRows(_Sum):
    def fuse(self, vectors):
        x = super().fuse(vectors)
        return x + torch.arange(len(x))[:, None]


@breaks("batch-of-one")
class Squeezes(_Sum):
    def forward(self, features, present):
        pooled = super().forward(features, present).pooled.squeeze()
        return Features(pooled[..., None, :], pooled, torch.ones(*pooled.shape[:-1], 1, dtype=torch.bool))


@breaks("batch-of-one")
class NeedsTwoRows(_Sum):
    def fuse(self, vectors):
        x = super().fuse(vectors)
        return x / x.std(0).isfinite()


@breaks("token-lengths")
class StacksTokens(Fusion):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs, 4)
        self.linears = nn.ModuleList(nn.Linear(w.tokens, 4) for w in inputs.values())

    def forward(self, features, present):
        found = self.tokens(features, present)
        tokens = torch.stack([linear(x) for linear, (x, _) in zip(self.linears, found, strict=True)]).sum(0)
        return Features.of_tokens(tokens, torch.stack([mask for _, mask in found]).any(0))


@breaks("missing-slots")
class NaNTimesZero(_Sum):
    def pooled(self, features, present):
        return [features[n].pooled * present[:, i, None] for i, n in enumerate(self.inputs)]


@breaks("missing-slots")
class NaNInGradient(_Sum):
    """The output is right; torch.where behind the Linear still gives the weight a gradient of 0 * NaN."""

    def forward(self, features, present):
        terms = [linear(features[n].pooled) for linear, n in zip(self.linears, self.inputs, strict=True)]
        return Features.of_pooled(sum(torch.where(present[:, i, None], x, 0.0) for i, x in enumerate(terms)))


@breaks("missing-slots")
class AbsentInBatchNorm(_Sum):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(w.pooled) for w in inputs.values())

    def pooled(self, features, present):
        normed = [norm(features[n].pooled) for norm, n in zip(self.norms, self.inputs, strict=True)]
        return [x.masked_fill(~present[:, i, None], 0.0) for i, x in enumerate(normed)]


@breaks("missing-slots")
class AbsentInStatisticsAlone(_Sum):
    """No output is wrong before it is used in eval mode: a running mean of what is absent."""

    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.register_buffer("mean", torch.zeros(1))

    def pooled(self, features, present):
        if self.training:
            with torch.no_grad():
                self.mean.lerp_(torch.stack([features[n].pooled.mean() for n in self.inputs]).mean(), 0.1)
        return super().pooled(features, present)

    def fuse(self, vectors):
        return super().fuse(vectors)


@breaks("missing-slots")
class ReadsTheMaskAlone(Fusion):
    """An absent input may still say that its tokens are valid."""

    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs, 4)
        self.linears = nn.ModuleList(nn.Linear(w.tokens, 4) for w in inputs.values())

    def forward(self, features, present):
        found = [(linear(fill(f.tokens, f.mask)), f.mask) for linear, f in zip(self.linears, features.values())]
        return Features.of_tokens(torch.cat([x for x, _ in found], 1), torch.cat([m for _, m in found], 1))


class _Tokens(Fusion):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs, 4)
        self.linears = nn.ModuleList(nn.Linear(w.tokens, 4) for w in inputs.values())

    def all(self, features, present):
        found = self.tokens(features, present)
        tokens = torch.cat([linear(x) for linear, (x, _) in zip(self.linears, found, strict=True)], 1)
        return tokens, torch.cat([mask for _, mask in found], 1)


@breaks("padding")
class MeanOverPadding(_Tokens):
    """Divides by the number of slots instead of the valid ones."""

    def forward(self, features, present):
        tokens, mask = self.all(features, present)
        return Features(tokens, fill(tokens, mask).mean(1), mask)

    def tokens(self, features, present):
        """An absent input has one slot, as Features.absent has."""
        found = super().tokens(features, present)
        return [(x, m) if present[:, i].any() else (x[:, :1], m[:, :1]) for i, (x, m) in enumerate(found)]


@breaks("padding")
class MaskIgnored(Fusion):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs, 4)
        self.linears = nn.ModuleList(nn.Linear(w.tokens, 4) for w in inputs.values())

    def forward(self, features, present):
        means = [features[n].tokens.mean(1).masked_fill(~present[:, i, None], 0.0) for i, n in enumerate(self.inputs)]
        return Features.of_pooled(sum(linear(x) for linear, x in zip(self.linears, means, strict=True)))


@breaks("padding")
class MasksByProduct(_Tokens):
    def forward(self, features, present):
        tokens, mask = self.all(features, present)
        return Features.of_tokens(tokens, mask)

    def tokens(self, features, present):
        found = []
        for i, name in enumerate(self.inputs):
            x = features[name].tokens.masked_fill(~present[:, i, None, None], 0.0)
            mask = features[name].mask & present[:, i, None]
            found.append((x * mask[..., None], mask))
        return found


@breaks("nothing-present")
class SoftmaxOverNothing(_Tokens):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.query = nn.Parameter(torch.randn(4))

    def forward(self, features, present):
        tokens, mask = self.all(features, present)
        weights = (tokens @ self.query).masked_fill(~mask, -math.inf).softmax(-1)
        return Features(fill(tokens, mask), (weights[..., None] * tokens).sum(1), mask)


@breaks("nothing-present")
class DividesByNumberPresent(_Sum):
    def forward(self, features, present):
        pooled = self.fuse([x / present.sum(1, keepdim=True) for x in self.pooled(features, present)])
        return Features.of_pooled(pooled)


@breaks("parameters-learn")
class UnusedLayer(_Sum):
    def __init__(self, inputs: Mapping[str, Widths]) -> None:
        super().__init__(inputs)
        self.spare = nn.Linear(4, 4)


@breaks("parameters-learn")
class CutFromItsWeights(_Sum):
    def fuse(self, vectors):
        first, *rest = (linear(x) for linear, x in zip(self.linears, vectors, strict=True))
        return first.detach() + sum(rest) if rest else first


@breaks("parameters-learn")
class ExcusesWhatThereIsNot(_Sum):
    unused_parameters: ClassVar = {"spare.*": "removed long ago"}


# Posteriors, heads


class _Gaussian(PosteriorNetwork):
    """A right one."""

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Annotated[int, Field(ge=1)] = 2) -> None:
        super().__init__(inputs, latent, ToyPrior(latent=latent))
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), latent)

    def normals(self, features, present):
        loc = self.linear(torch.cat(self.pooled(features, present), -1))
        loc = torch.where(present.any(1, keepdim=True), loc, 0.0)
        scale = torch.where(present.any(1, keepdim=True), 0.5, 1.0).expand_as(loc)
        return Normal(loc, scale, validate_args=False), self.prior(len(present)).distribution

    def forward(self, features: Mapping[str, Features], present: Tensor) -> Posterior:
        return Posterior.of(*self.normals(features, present))


@breaks("declared-output")
class WeightsSumToTwo(_Gaussian):
    def forward(self, features, present):
        q, p = self.normals(features, present)
        both = Normal(torch.stack([q.loc, q.loc]), torch.stack([q.scale, q.scale]), validate_args=False)
        return Posterior.of(both, p, weights=torch.ones(2, len(present)))


@breaks("declared-output")
class NarrowerThanDeclared(_Gaussian):
    def forward(self, features, present):
        q, p = self.normals(features, present)
        return Posterior.of(Normal(q.loc[:, :1], q.scale[:, :1]), Normal(p.loc[:, :1], p.scale[:, :1]))


@breaks("no-global-random")
class SamplesByItself(_Gaussian):
    def forward(self, features, present):
        post = super().forward(features, present)
        return post.with_z(post.distribution.rsample())


@breaks("row-independence")
class SamplesByBatchPlace(_Gaussian):
    def forward(self, features, present):
        post = super().forward(features, present)

        def sampler(noise: Noise) -> Tensor:
            return torch.randn(post.z.shape, generator=torch.Generator().manual_seed(noise.key)) + post.z

        return Posterior(post.distribution, post.prior, post.z, post.weights, sampler=sampler)


@breaks("nothing-present")
class NothingIsNotThePrior(_Gaussian):
    def normals(self, features, present):
        loc = self.linear(torch.cat(self.pooled(features, present), -1))
        return Normal(loc, torch.ones_like(loc), validate_args=False), self.prior(len(present)).distribution


@breaks("declared-output")
class FlatScores(Head):
    realness = True

    def __init__(self, inputs: Mapping[str, Widths], modality: None = None) -> None:
        super().__init__(inputs, modality, 1)
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), 1)

    def forward(self, features, present):
        return self.linear(torch.cat(self.pooled(features, present), -1)).squeeze(-1)


# Encoders


class _Steps(Encoder):
    """A right one."""

    def __init__(self, modality: SequenceModality, *, width: Annotated[int, Field(ge=1)] = 4) -> None:
        super().__init__(modality, width)
        self.linear = nn.Linear(modality.channels, width)

    def encode(self, x: Tensor, signal: Signal) -> Features:
        mask = torch.ones(x.shape[:2]).bool() if signal.mask is None else signal.mask
        return self.pool(self.linear(fill(x, mask)), mask)

    def pool(self, tokens, mask):
        return Features.of_tokens(tokens, mask)


@breaks("signature")
class NoFamily(_Steps):
    def __init__(self, modality, *, width: int = 4) -> None:
        super().__init__(modality, width=width)


@breaks("padding")
class LastSlot(_Steps):
    def pool(self, tokens, mask):
        return Features(fill(tokens, mask), tokens[:, -1], mask)


@breaks("padding")
class BatchNormOverPadding(_Steps):
    def __init__(self, modality: SequenceModality) -> None:
        super().__init__(modality)
        self.norm = nn.BatchNorm1d(4)

    def pool(self, tokens, mask):
        return Features.of_tokens(self.norm(tokens.mT).mT, mask)


@breaks("nothing-present")
class MeanOfNoSteps(_Steps):
    def pool(self, tokens, mask):
        return Features(fill(tokens, mask), fill(tokens, mask).sum(1) / mask.sum(1, keepdim=True), mask)


@breaks("relaxed-input")
class HardLabels(Encoder):
    def __init__(self, modality: CategoryModality) -> None:
        super().__init__(modality, 4)
        self.table = nn.Linear(len(modality.classes), 4)

    def embed(self, data: Tensor) -> Tensor:
        index = data.argmax(-1) if data.is_floating_point() else data
        return self.table(one_hot(index, self.table.in_features).float())

    def encode(self, x: Tensor, signal: Signal) -> Features:
        return Features.of_pooled(x)


# Decoders


class _Sequences(Decoder):
    """A right one."""

    def __init__(self, latent: int, modality: SequenceModality, conditions: Mapping[str, Widths] | None = None) -> None:
        super().__init__(latent, modality, conditions)
        self.linear = nn.Linear(self.inputs_width, modality.length * modality.channels)

    def forward(self, z: Tensor, conditions: Mapping[str, Features]) -> Likelihood:
        mean = self.linear(self.joined(z, conditions))
        return self.likelihood(mean.unflatten(-1, (self.modality.length, self.modality.channels)))

    def likelihood(self, mean):
        return MaskedNormal(mean)


class _SumsPadding(MaskedNormal):
    def log_prob(self, signal):
        n = signal.data.shape[1]
        return Normal(self._mean[..., :n, :], 1.0).log_prob(signal.filled()).sum((-1, -2))


class _NaNPadding(MaskedNormal):
    def log_prob(self, signal):
        terms = Normal(self._mean[..., : signal.data.shape[1], :], 1.0, validate_args=False).log_prob(signal.data)
        return (terms.sum(-1) * signal.mask).sum(-1)


@breaks("likelihood-masked")
class SumsPadding(_Sequences):
    def likelihood(self, mean):
        return _SumsPadding(mean)


@breaks("likelihood-masked")
class PaddingTimesZero(_Sequences):
    def likelihood(self, mean):
        return _NaNPadding(mean)


@breaks("sample-axes")
class MixesSamples(_Sequences):
    """Reads [k b] as [b k]."""

    def forward(self, z, conditions):
        x = self.joined(z, conditions)
        rows = x.transpose(0, -2).reshape(-1, x.shape[-1]) if z.ndim > 2 else x
        mean = self.linear(rows).reshape(*x.shape[:-1], self.modality.length, self.modality.channels)
        return MaskedNormal(mean)


@breaks("sample-axes")
class OneBatchAxis(_Sequences):
    def forward(self, z, conditions):
        mean = self.linear(self.joined(z.flatten(0, -2), conditions))
        return MaskedNormal(mean.reshape(len(z), self.modality.length, self.modality.channels))


@breaks("no-global-random")
class GlobalSample(_Sequences):
    def likelihood(self, mean):
        class Drawn(MaskedNormal):
            def sample(self, noise: Noise) -> Signal:
                return Signal(torch.normal(self._mean), self.mean.mask)

        return Drawn(mean)


@breaks("padding")
class ReadsConditionsPadding(_Sequences):
    def joined(self, z, conditions):
        means = [c.tokens.mean(1)[..., :3] for c in conditions.values()]
        return torch.cat([z, *(m.expand(*z.shape[:-1], 3) for m in means)], -1)


@breaks("declared-output")
class HasADensityAfterAll(Decoder):
    density = False

    def __init__(self, latent: int, modality: Modality, conditions: Mapping[str, Widths] | None = None) -> None:
        super().__init__(latent, modality, conditions)
        self.shape = modality.example(1).data.shape[1:]
        self.linear = nn.Linear(self.inputs_width, self.shape.numel())

    def forward(self, z, conditions):
        mean = self.linear(self.joined(z, conditions)).unflatten(-1, self.shape)
        return DistributionLikelihood(Normal(mean, 1.0), z.ndim - 2)


@breaks("declared-output")
class WrongShape(_Sequences):
    density = False

    def likelihood(self, mean):
        return Samples(Signal(mean[..., :1]))


# Losses


class _Score(Loss):
    """A right one: the discriminator lowers all scores."""

    def __init__(self, graph: Any, *, score: str) -> None:
        super().__init__(graph, ["discriminator"])
        self.score = score

    def rows(self, run, player):
        return run.present(self.score)

    def forward(self, run, player):
        return Term.of(run.score(self.score), self.rows(run, player))


@breaks("players")
class WrongPlayer(_Score):
    def __init__(self, graph: Any, *, score: str) -> None:
        super().__init__(graph, score=score)
        self.players = frozenset({"generator"})


@breaks("players")
class NoPlayer(_Score):
    def __init__(self, graph: Any, *, score: str) -> None:
        super().__init__(graph, score=score)
        self.players = frozenset()


@breaks("counts")
class CountsEveryRow(_Score):
    def forward(self, run, player):
        return Term(super().forward(run, player).sum, torch.tensor(len(run.batch)))


@breaks("counts")
class RowsByContent(_Score):
    def rows(self, run, player):
        return run.present(self.score) & run.score(self.score).isfinite()


@breaks("nothing-present")
class MeanOfNothing(_Score):
    def forward(self, run, player):
        rows = self.rows(run, player)
        return Term(run.score(self.score)[rows].mean() * rows.sum(), rows.sum())


class _Squares(Loss):
    """A right one: the mean square of vectors, by way of the encoder so that something learns."""

    def __init__(self, graph: Any) -> None:
        super().__init__(graph, ["generator"])

    def rows(self, run, player):
        return run.batch.present["vector"]

    def values(self, run):
        return run["encode_vector"].pooled.sum(-1)

    def forward(self, run, player):
        return Term.of(self.values(run), self.rows(run, player))


@breaks("missing-slots")
class ReadsMissing(_Squares):
    def forward(self, run, player):
        rows, data = self.rows(run, player), run.batch.signals["vector"].data
        return Term((self.values(run) * data.sum(-1) * rows).sum(), rows.sum())


@breaks("row-additive")
class NormalisesOverRows(_Squares):
    def values(self, run):
        x = super().values(run)
        return x - x.masked_fill(~run.batch.present["vector"], 0.0).mean()


@breaks("no-global-random")
class DropsRows(_Squares):
    def values(self, run):
        x = super().values(run)
        return x * torch.rand_like(x)


@breaks("parameters-registered")
class HiddenTemperature(_Squares):
    def __init__(self, graph: Any) -> None:
        super().__init__(graph)
        self.temperature = [torch.ones(1, requires_grad=True)]

    def values(self, run):
        return super().values(run) * self.temperature[0]


@breaks("parameters-learn")
class IdleTemperature(_Squares):
    def __init__(self, graph: Any) -> None:
        super().__init__(graph)
        self.temperature = nn.Parameter(torch.ones(1))


# Modalities


@breaks("defaults")
class NoDefaults(ToyVector):
    encoder = "image.conv"


@breaks("example")
class OneRowTooMany(ToyVector):
    def example(self, b: int) -> Signal:
        return super().example(b + 1)


@breaks("prepare-restore")
class Rounds(ToyVector):
    def restore(self, signal: Signal) -> list[Any]:
        return [[round(x, 1) for x in row] for row in super().restore(signal)]


@breaks("config-round-trip")
class RandomScale(ToyVector):
    def __init__(self, *, channels: int = 3) -> None:
        super().__init__(channels=channels)
        self.scale = float(torch.rand(()) + 0.5)

    def prepare(self, raw: Any) -> Signal:
        return Signal(super().prepare(raw).data / self.scale)

    def restore(self, signal: Signal) -> list[Any]:
        return super().restore(Signal(signal.data * self.scale))


@breaks("collate")
class RightAligned(ToySequence):
    """Pads in front, and says that the padding is behind."""

    def collate(self, samples) -> Signal:
        whole = super().collate(samples)
        shifts = [whole.data.shape[1] - len(sample.data) for sample in samples]
        return Signal(torch.stack([x.roll(n, 0) for x, n in zip(whole.data, shifts, strict=True)]), whole.mask)


@breaks("blank")
class BlankOfAnotherShape(ToyVector):
    def blank(self) -> Signal:
        return Signal(torch.zeros(self.shape[0] + 1))


@breaks("fit")
class LearnsAnArray(ToyVector):
    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        return {"channels": np.int64(super().fit(samples)["channels"])}


@breaks("fit")
class LearnsUnknownKey(ToyVector):
    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        return {"size": super().fit(samples)["channels"]}


@breaks("fit")
class GrowsWithEachFit(ToyVector):
    def __init__(self, *, channels: int = 3, seen: int = 0) -> None:
        super().__init__(channels=channels)
        self.seen = seen

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        return {**super().fit(samples), "seen": self.seen + 1}


@breaks("refuses")
class CrashesOnNonsense(ToyVector):
    def prepare(self, raw: Any) -> Signal:
        return Signal(torch.tensor(raw))


@breaks("relax")
class RelaxesByHand(ToyVector):
    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        return Signal(likelihood.sample(noise).data.detach())


@breaks("relax")
class ForgetsTheMask(ToySequence):
    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        return likelihood.mean


@breaks("augment")
class AugmentsNothing(ToyVector):
    augmentations = ("nothing",)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        return signal


@breaks("augment")
class AugmentsByBatchMates(ToyVector):
    augmentations = ("mix",)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        return Signal(signal.data + signal.data.mean(0))


@breaks("augment")
class AugmentsForGood(ToyVector):
    augmentations = ("gain",)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        return Signal((signal.data * noise.uniform(like=signal.data)[:, None]).detach())


@breaks("augment")
class AugmentsByAnyName(ToyVector):
    augmentations = ("gain",)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        return Signal(signal.data * noise.uniform(like=signal.data)[:, None])


@breaks("augment")
class AugmentsPadding(ToySequence):
    augmentations = ("gain",)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        return Signal(signal.filled() * noise.uniform(like=signal.data)[:, None, None], signal.mask)


@breaks("augment")
class AugmentsByLuck(ToyVector):
    augmentations = ("gain",)

    def augment(self, signal: Signal, name: str, noise: Noise) -> Signal:
        return Signal(signal.data * torch.rand(len(signal.data), 1))


@breaks("render")
class RendersText(ToyVector):
    def render(self, signal: Signal) -> list[Media]:
        return [str(row) for row in signal.data]


# Recipes and data sets


def _nodes(m):
    return {"encode": {"use": "encoder/toys.linear", "in": m}, "score": {"use": "head/toys.score", "in": "encode"}}


def _recipe(modalities):
    first = next(iter(modalities))
    return {
        "modalities": {m: {"use": part["use"]} for m, part in modalities.items()},
        "nodes": _nodes(first),
        "losses": {"toy": {"use": "loss/toys.score", "with": {"score": "score"}}},
        "stages": [{"name": "all", "epochs": 1, "losses": ["toy"]}],
    }


@breaks("signature")
def takes_no_modalities(*, width: int = 3):
    return {}


@breaks("config-round-trip")
def returns_a_tuple(modalities):
    return {**_recipe(modalities), "stages": tuple(_recipe(modalities)["stages"])}


@breaks("builds-one")
def names_the_second(modalities):
    return {**_recipe(modalities), "nodes": _nodes(list(modalities)[1])}


@breaks("builds-two")
def takes_one_alone(modalities):
    if len(modalities) > 1:
        return {**_recipe(modalities), "nodes": _nodes("first")}
    return _recipe(modalities)


@breaks("builds-two")
def learns_nothing(modalities):
    if len(modalities) == 1:
        raise ConfigError("one modality is too few")
    config = _recipe(modalities)
    return {**config, "players": {"discriminator": ["score"]}, "stages": [{**config["stages"][0], "learn": ["encode"]}]}


class _Rows(Dataset):
    train = validation = test = ({"vector": [1.0, 2.0, 3.0]}, {"vector": None, "label": 1})


@breaks("splits")
class NoRows(_Rows):
    train = ()


@breaks("splits")
class TuplesForRows(_Rows):
    test = ([1.0, 2.0],)


@breaks("splits")
class EmptyRow(_Rows):
    train = ({"vector": None},)


@breaks("repeatable")
class Shuffled(_Rows):
    def __init__(self) -> None:
        self.train = self.validation = self.test = [{"vector": [float(torch.rand(()))]}]
