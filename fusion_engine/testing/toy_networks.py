"""Small networks to test with, one a kind, and a registry that holds them under the plugin name ``toys``."""

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn.functional import one_hot

from fusion_engine.components import (
    CategoryModality,
    Decoder,
    Encoder,
    Fusion,
    Head,
    Modality,
    NumberModality,
    PosteriorNetwork,
    Prior,
    SequenceModality,
    TagsModality,
    over_samples,
)
from fusion_engine.likelihoods import DistributionLikelihood, Likelihood
from fusion_engine.losses import Loss
from fusion_engine.noise import Noise
from fusion_engine.plugins import Registry
from fusion_engine.run import Run
from fusion_engine.testing.toys import ToyCategory, ToyImage, ToySequence, ToyTags, ToyVector
from fusion_engine.values import Features, Posterior, Signal, Term, Widths

Positive = Annotated[int, Field(ge=1)]


class ToyEncoder(Encoder):
    """Map data through one Linear and tanh: a token a step where there is a mask, one token a row else."""

    def __init__(self, modality: Modality, *, width: Positive = 4) -> None:
        super().__init__(modality, width)
        example = modality.example(1)
        shape = example.data.shape[1:] if example.mask is None else example.data.shape[2:]
        self.classes = len(modality.classes) if isinstance(modality, CategoryModality) else 0
        self.linear = nn.Linear(self.classes or math.prod(shape), width)

    def encode(self, x: Tensor, signal: Signal) -> Features:
        """Encode."""
        if self.classes and not x.is_floating_point():
            x = one_hot(x, self.classes).float()
        if signal.mask is None:
            return Features.of_pooled(self.linear(x.flatten(1)).tanh())
        filled = Signal(x, signal.mask).filled()
        return Features.of_tokens(self.linear(filled).tanh(), signal.mask, signal.position)


class ToyEmbedding(Encoder):
    """Look a label up; a soft one-hot row gives the mean of the vectors."""

    def __init__(self, modality: CategoryModality, *, width: Positive = 4) -> None:
        super().__init__(modality, width)
        self.weight = nn.Parameter(torch.randn(len(modality.classes), width))

    def embed(self, data: Tensor) -> Tensor:
        """Look up or average."""
        return data @ self.weight if data.is_floating_point() else self.weight[data]

    def encode(self, x: Tensor, signal: Signal) -> Features:
        """Wrap."""
        return Features.of_pooled(x)


class ToyFusion(Fusion):
    """Add one Linear of each present pooled vector up."""

    def __init__(self, inputs: Mapping[str, Widths], *, width: Positive = 4) -> None:
        super().__init__(inputs, width)
        self.linears = nn.ModuleList(nn.Linear(w.pooled, width) for w in inputs.values())

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse."""
        terms = [f(x) for f, x in zip(self.linears, self.pooled(features, present), strict=True)]
        return Features.of_pooled(torch.stack(terms).sum(0))


class ToyPrior(Prior):
    """N(0, I)."""

    def __init__(self, *, latent: Positive = 2) -> None:
        super().__init__(latent)

    def forward(self, b: int) -> Posterior:
        """Return the prior for b rows."""
        normal = Normal(torch.zeros(b, self.latent), torch.ones(b, self.latent), validate_args=False)
        return Posterior.of(normal, normal)


class ToyPosterior(PosteriorNetwork):
    """A mixture of one Normal an input, in equal shares over what a row has; the last component is the prior."""

    def __init__(self, inputs: Mapping[str, Widths], *, latent: Positive = 2) -> None:
        super().__init__(inputs, latent, ToyPrior(latent=latent))
        self.linears = nn.ModuleList(nn.Linear(w.pooled, 2 * latent) for w in inputs.values())

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Posterior:
        """Infer."""
        raw = torch.stack([f(x) for f, x in zip(self.linears, self.pooled(features, present), strict=True)])
        raw = torch.cat([raw, torch.zeros_like(raw[:1])])
        held = torch.cat([present, ~present.any(1, keepdim=True)], 1).T
        raw = torch.where(held[..., None], raw, 0.0)
        loc, log_scale = raw.chunk(2, -1)
        normal = Normal(loc, log_scale.tanh().exp(), validate_args=False)
        prior = self.prior(len(present)).distribution
        weights, choice = held.float() / held.sum(0), held.float().argmax(0)
        pairs = zip(self.inputs, normal.loc, normal.scale, strict=False)
        experts = {name: Normal(loc, scale, validate_args=False) for name, loc, scale in pairs}
        return Posterior.of(normal, prior, weights=weights, experts=experts, choice=choice)


class MaskedNormal(Likelihood):
    """Unit Normals around mean [*k b n c]; padding is never summed."""

    def __init__(self, mean: Float[Tensor, "*k b n c"]) -> None:
        self._mean = mean

    def log_prob(self, signal: Signal) -> Float[Tensor, "*k b"]:
        """Log density over the valid steps."""
        data = signal.filled()
        normal = Normal(self._mean[..., : data.shape[1], :], 1.0)
        terms: Tensor = normal.log_prob(data).sum(-1)  # type: ignore[no-untyped-call]
        return (terms if signal.mask is None else terms.masked_fill(~signal.mask, 0.0)).sum(-1)

    def sample(self, noise: Noise) -> Signal:
        """Draw sequences of full length."""
        *lead, _, n, c = self._mean.shape
        return Signal(self._mean + noise.normal(n, c, lead=lead, like=self._mean), self.mean.mask)

    @property
    def mean(self) -> Signal:
        """The mean, at full length."""
        return Signal(self._mean, torch.ones(self._mean.shape[:-1], dtype=torch.bool))


class ToyDecoder(Decoder):
    """One Linear to unit Normals, or to the logits of a label."""

    def __init__(self, latent: int, modality: Modality, conditions: Mapping[str, Widths] | None = None) -> None:
        super().__init__(latent, modality, conditions)
        shape = tuple(modality.example(1).data.shape[1:])
        self.shape = (len(modality.classes),) if isinstance(modality, CategoryModality) else shape
        self.linear = nn.Linear(self.inputs_width, math.prod(self.shape))

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode."""
        x = over_samples(lambda r: self.linear(r).reshape(-1, *self.shape), self.joined(z, conditions))
        if isinstance(self.modality, SequenceModality):
            return MaskedNormal(x)
        axes = z.ndim - 2
        if isinstance(self.modality, CategoryModality):
            return DistributionLikelihood(Categorical(logits=x, validate_args=False), axes)
        return DistributionLikelihood(Normal(x, 1.0, validate_args=False), axes)


class ToyScore(Head):
    """Score by one Linear."""

    realness = True

    def __init__(self, inputs: Mapping[str, Widths], modality: None = None) -> None:
        super().__init__(inputs, modality, 1)
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), 1)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b 1"]:
        """Score."""
        score: Tensor = self.linear(torch.cat(self.pooled(features, present), -1))
        return score


class ToyClassifier(Head):
    """Predict a label by one Linear."""

    predicts = True

    def __init__(self, inputs: Mapping[str, Widths], modality: CategoryModality) -> None:
        super().__init__(inputs, modality, len(modality.classes))
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), self.outputs)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b o"]:
        """Predict."""
        logits: Tensor = self.linear(torch.cat(self.pooled(features, present), -1))
        return logits


class ToyEstimator(Head):
    """Predict numbers by one Linear."""

    predicts = True

    def __init__(self, inputs: Mapping[str, Widths], modality: NumberModality) -> None:
        super().__init__(inputs, modality, modality.channels)
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), self.outputs)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b o"]:
        """Predict."""
        values: Tensor = self.linear(torch.cat(self.pooled(features, present), -1))
        return values

    def decide(self, output: Float[Tensor, "b o"]) -> Signal:
        """The numbers themselves."""
        return Signal(output)


class ToyTagger(Head):
    """Predict tags by one Linear: a logit each."""

    predicts = True

    def __init__(self, inputs: Mapping[str, Widths], modality: TagsModality) -> None:
        super().__init__(inputs, modality, len(modality.classes))
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), self.outputs)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b o"]:
        """Predict."""
        logits: Tensor = self.linear(torch.cat(self.pooled(features, present), -1))
        return logits

    def probabilities(self, output: Float[Tensor, "b o"]) -> Float[Tensor, "b v"]:
        """One a tag."""
        return output.sigmoid()

    def decide(self, output: Float[Tensor, "b o"]) -> Signal:
        """The tags that are likelier than not."""
        return Signal((output > 0).float())


class ToyRanker(Head):
    """Predict an ordered label by one Linear: a logit of P(y > j) for each class j but the last, falling with j."""

    predicts = True

    def __init__(self, inputs: Mapping[str, Widths], modality: CategoryModality) -> None:
        super().__init__(inputs, modality, len(modality.classes) - 1)
        self.linear = nn.Linear(sum(w.pooled for w in inputs.values()), 1)

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b o"]:
        """Predict."""
        score: Tensor = self.linear(torch.cat(self.pooled(features, present), -1))
        return score - torch.arange(self.outputs)

    def probabilities(self, output: Float[Tensor, "b o"]) -> Float[Tensor, "b v"]:
        """Differences of the cumulative probabilities."""
        above = torch.nn.functional.pad(torch.nn.functional.pad(output.sigmoid(), [1, 0], value=1.0), [0, 1])
        return above[:, :-1] - above[:, 1:]


class ToyLoss(Loss):
    """The mean score: it makes a head a discriminator's."""

    def __init__(self, graph: nn.Module, *, score: str) -> None:
        super().__init__(graph, ["discriminator"])  # type: ignore[arg-type]
        self.score = score

    def forward(self, run: Run, player: str) -> Term:
        """Add scores up."""
        return Term.of(run.score(self.score), run.anything())


def toy_registry() -> Registry:
    """Hold every toy under the plugin name ``toys``: enough to build any graph with."""
    registry = Registry("toys")
    for name, modality in {
        "vector": ToyVector,
        "image": ToyImage,
        "sequence": ToySequence,
        "category": ToyCategory,
        "tags": ToyTags,
    }.items():
        registry.modality(name, modality)
    registry.encoder("linear", ToyEncoder)
    registry.encoder("embedding", ToyEmbedding)
    registry.fusion("sum", ToyFusion)
    registry.prior("normal", ToyPrior)
    registry.posterior("mixture", ToyPosterior)
    registry.decoder("linear", ToyDecoder)
    registry.head("score", ToyScore)
    registry.head("classifier", ToyClassifier)
    registry.head("estimator", ToyEstimator)
    registry.head("tagger", ToyTagger)
    registry.head("ranker", ToyRanker)
    registry.loss("score", ToyLoss)
    return registry
