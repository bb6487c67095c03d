"""Categories as a modality: one label a sample."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.distributions import Categorical
from torch.nn.functional import one_hot

from fusion_engine import (
    CategoryModality,
    DistributionLikelihood,
    Likelihood,
    Media,
    Noise,
    Signal,
    require,
)
from fusion_engine_tabular.labels import Classes, Label, learned_classes, read_label


class Category(CategoryModality):
    """One of a list of classes: integers, strings or booleans.

    Signals are indices [b] into the classes, or their relaxation [b v], a soft one-hot. Whole floating-point numbers
    are read as integers, as tables with gaps hold them. Until ``fit`` has learned the classes they are 0, 1 and 2.
    Ordered classes (low, middle, high) are a category too: give ``classes`` from the lowest to the highest, and that
    order stays; learned classes are sorted, which is an order by value for integers alone.

    Args:
        classes: the raw label of each index; learned as those of the data, sorted.
        temperature: of relaxed samples; the smaller, the less biased and the noisier is their gradient.
    """

    encoder: ClassVar[str] = "encoder/tabular.embedding"
    decoder: ClassVar[str] = "decoder/tabular.logits"

    def __init__(
        self,
        *,
        classes: Annotated[Sequence[str | int | bool], Field(min_length=1)] | None = None,
        temperature: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        self._is_set = classes is not None
        self._labels = Classes((0, 1, 2) if classes is None else classes)
        self.classes = self._labels.classes
        self.temperature = temperature

    def fit(self, samples: Iterable[Any]) -> dict[str, Any]:
        """Learn the classes; where the config sets them, every label must be one of them.

        Raises:
            DataError: no labels, labels of several types, or such that do not fit the config.
        """
        labels = {read_label(raw) for raw in samples}
        require(bool(labels), "there are no labels to learn from", expected="at least one", actual="none")
        return {"classes": self._labels.check(labels) if self._is_set else learned_classes(labels)}

    def prepare(self, raw: Any) -> Signal:
        """Look one label up: its index, without axes.

        Raises:
            DataError: it is none of the classes.
        """
        return Signal(torch.tensor(self._labels.index(read_label(raw))))

    def restore(self, signal: Signal) -> list[Label]:
        """Return the raw label of each row; of a soft one-hot, the likeliest."""
        return [self.classes[i] for i in self._indices(signal).tolist()]

    def example(self, b: int) -> Signal:
        """Make random indices [b], the same at each call."""
        return Signal(torch.randint(len(self.classes), (b,), generator=torch.Generator().manual_seed(0)))

    def render(self, signal: Signal) -> list[Media]:
        """Write each row's label."""
        return [Media("text/plain", str(label).encode()) for label in self.restore(signal)]

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Draw a one-hot row whose gradient is that of a Gumbel softmax: Jang et al., ICLR 2017, arXiv:1611.01144.

            hard = one_hot(argmax(logits + g)),  soft = softmax((logits + g) / temperature)

        A likelihood that is no categorical distribution gives its mean.
        """
        if not (isinstance(likelihood, DistributionLikelihood) and isinstance(likelihood.distribution, Categorical)):
            return super().relax(likelihood, noise, like)
        logits = likelihood.distribution.logits
        uniform = noise.uniform(logits.shape[-1], lead=logits.shape[:-2], like=logits).clamp(1e-6, 1 - 1e-6)
        soft: Tensor = ((logits - torch.log(-torch.log(uniform))) / self.temperature).softmax(-1)
        return Signal(straight_through(soft))

    def _indices(self, signal: Signal) -> Int[Tensor, " b"]:
        data = signal.data.detach()
        indices: Tensor = data.argmax(-1) if data.is_floating_point() else data
        return indices


def straight_through(soft: Float[Tensor, "*k b v"]) -> Float[Tensor, "*k b v"]:
    """Return the one-hot of the largest entry, with the gradient of ``soft``."""
    hard = one_hot(soft.argmax(-1), soft.shape[-1]).to(soft)
    return hard + (soft - soft.detach())
