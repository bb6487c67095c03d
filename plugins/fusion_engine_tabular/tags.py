"""Sets of labels as a modality: any number of tags a sample."""

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch.distributions import Bernoulli

from fusion_engine import (
    DataError,
    DistributionLikelihood,
    Likelihood,
    Media,
    Noise,
    Signal,
    TagsModality,
    require,
)
from fusion_engine_tabular.labels import Classes, Label, learned_classes, read_label


class Tags(TagsModality):
    """A set of labels out of a list of classes; the empty set is one too.

    Raw samples are a set, list, tuple or array of strings, integers or booleans; restored ones are lists in the order
    of the classes. Signals are [b v], 1 where the row has the tag, or their relaxation, a probability a tag. Until
    ``fit`` has learned the classes they are 0, 1 and 2.

    Args:
        classes: the tag of each index; learned as those of the data, sorted.
        temperature: of relaxed samples; the smaller, the less biased and the noisier is their gradient.
    """

    encoder: ClassVar[str] = "encoder/tabular.tags"
    decoder: ClassVar[str] = "decoder/tabular.tags"

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
        """Learn the classes; where the config sets them, every tag must be one of them.

        Raises:
            DataError: no tags, tags of several types, or such that do not fit the config.
        """
        sets = [_tags(raw) for raw in samples]
        require(bool(sets), "there are no tags to learn from", expected="at least one sample", actual="none")
        tags = {tag for found in sets for tag in found}
        return {"classes": self._labels.check(tags) if self._is_set else learned_classes(tags)}

    def prepare(self, raw: Any) -> Signal:
        """Mark the tags of one sample: data [v].

        Raises:
            DataError: it is no set of tags, or one is none of the classes.
        """
        data = torch.zeros(len(self.classes))
        for tag in _tags(raw):
            data[self._labels.index(tag)] = 1.0
        return Signal(data)

    def restore(self, signal: Signal) -> list[list[Label]]:
        """Return the tags of each row, in the order of the classes; of probabilities, those of a half or more."""
        rows = (signal.data.detach() >= 0.5).tolist()
        return [[tag for tag, here in zip(self.classes, row, strict=True) if here] for row in rows]

    def example(self, b: int) -> Signal:
        """Mark tags at random [b v], the same at each call."""
        drawn = torch.rand(b, len(self.classes), generator=torch.Generator().manual_seed(0))
        return Signal((drawn < 0.5).float())

    def render(self, signal: Signal) -> list[Media]:
        """Write each row's tags; a dash where there is none."""
        return [Media("text/plain", (", ".join(map(str, tags)) or "-").encode()) for tags in self.restore(signal)]

    def relax(self, likelihood: Likelihood, noise: Noise, like: Signal | None = None) -> Signal:
        """Draw 0 or 1 a tag, with the gradient of a concrete distribution: Maddison et al., 2017, arXiv:1611.00712.

            soft = sigmoid((logits + log(u) - log(1 - u)) / temperature),  hard = soft >= 1/2

        A likelihood that is no Bernoulli distribution gives its mean.
        """
        if not (isinstance(likelihood, DistributionLikelihood) and isinstance(likelihood.distribution, Bernoulli)):
            return super().relax(likelihood, noise, like)
        logits = likelihood.distribution.logits
        u = noise.uniform(logits.shape[-1], lead=logits.shape[:-2], like=logits).clamp(1e-6, 1 - 1e-6)
        soft = ((logits + u.logit()) / self.temperature).sigmoid()
        return Signal((soft >= 0.5).to(soft) + (soft - soft.detach()))


def _tags(raw: Any) -> set[Label]:
    """Read a set of tags.

    Raises:
        DataError: it is no collection of labels.
    """
    values = raw.tolist() if getattr(raw, "ndim", None) == 1 else raw
    if not isinstance(values, AbstractSet | list | tuple):
        raise DataError(
            "tags are a set or a list of labels",
            expected="such",
            actual=repr(raw)[:80],
            fix="put a single tag into a list; an empty list is a sample without tags, and None a missing one",
        )
    return {read_label(value) for value in values}
