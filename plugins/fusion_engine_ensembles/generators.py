"""An ensemble of generators: Wang, Zhang, van de Weijer, "Ensembles of generative adversarial networks", 2016,
arXiv:1612.00991; each member's samples through its discriminator: arXiv:1810.06758 (see ``rejection``).
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from fusion_engine import DataError, Table
from fusion_engine_ensembles.generator_members import (
    Look,
    Rows,
    conditions,
    flat_features,
    made,
    matrix,
    named,
    weights_of,
    whole_rows,
)
from fusion_engine_ensembles.mixing import best_weights, counts, expected_coverage, rates
from fusion_engine_ensembles.rejection import Drawing, scores_of, slope_of

Positive = Annotated[int, Field(ge=1)]


class GeneratorEnsemble:
    """Several trained generators of the same modalities as one mixture: p(x) = sum_m w_m p_m(x).

    ``fit`` learns from validation rows, which the members did not learn from: the weights of the most expected coverage
    (see ``mixing``; given weights stay) and, where it rejects, by what each member's score is to be multiplied. Without
    ``fit`` the weights are as given, or equal, and scores count as they are. Of n samples a member gives n w_m, to
    within one; their order is shuffled. Rows that are given, of modalities that condition the decoders, are passed on,
    and row i of the samples is made for row i of them. Members may be of different architectures and scales: what they
    share is raw samples.

    Args:
        members: (name, trained ``FusionModel``) pairs, or models alone.
        weights: one a member, of any sum; None: equal, or learned.
        rejection: keep what a member's own discriminator lets through; every member needs a score head.
        percentile: how strict that is: a sample whose F is at this percentile is kept with probability one half. None:
            exact where the discriminator is, and slow.
        burn_in: samples of a member that its threshold is taken from, at every call.
        rounds: draws of at least 256 samples until each row has one that is kept.
        score: the score head, where members have several.
        k: of the nearest neighbours that coverage goes by.
        samples: drawn of each member by ``fit``.
        seed: of ``fit``.

    After ``fit``: ``weights_`` [m], ``coverage_`` of the mixture and ``member_coverages_`` by name, each the expected
    coverage of as many samples as there are validation rows, on those rows: the weights were chosen on them, so report
    coverage on others; ``slopes_`` by name.

    Raises:
        ConfigError: there are no members, one is no model, they make different modalities, or weights do not fit.
    """

    def __init__(
        self,
        members: Sequence[Any],
        *,
        weights: list[Annotated[float, Field(ge=0)]] | None = None,
        rejection: bool = False,
        percentile: Annotated[float, Field(ge=0, le=100)] | None = 80.0,
        burn_in: Positive = 1000,
        rounds: Positive = 100,
        score: str | None = None,
        k: Positive = 5,
        samples: Positive = 1000,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        self.members, self.weights, self.rejection, self.percentile = members, weights, rejection, percentile
        self.burn_in, self.rounds, self.score, self.k = burn_in, rounds, score, k
        self.samples, self.seed = samples, seed
        self.members_ = named(members)
        self.weights_ = weights_of(weights, len(self.members_))
        self.slopes_ = dict.fromkeys(self.members_, 1.0)

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the members make."""
        return made(next(iter(self.members_.values())))

    def fit(self, rows: Any, y: Any = None, *, features: Look | None = None) -> "GeneratorEnsemble":
        """Learn weights, and what scores are worth.

        Args:
            rows: a table of validation rows; those that lack a modality are left out.
            y: nothing; scikit-learn's habit.
            features: of rows {modality: raw sample}, [n d]; by default what the first member's modalities prepare,
                flat, each modality divided by its total deviation. Pixels and token ids are poor features of what
                is seen: give a judge's there.

        Raises:
            DataError: fewer than k + 1 whole rows.
        """
        whole = whole_rows(rows, self.modalities, self.k + 1)
        look = features or flat_features(next(iter(self.members_.values())), whole)
        if self.rejection:
            self.slopes_ = {name: self._slope(i, whole) for i, name in enumerate(self.members_)}
        drawn = [self._rows(i, whole) for i in range(len(self.members_))]
        n, c = len(whole), rates(matrix(look(whole)), [matrix(look(rows)) for rows in drawn], self.k)
        if self.weights is None:
            self.weights_ = best_weights(c, n)
        self.coverage_ = expected_coverage(c, self.weights_, n)
        alone = [expected_coverage(c, one, n) for one in np.eye(len(c))]
        self.member_coverages_ = dict(zip(self.members_, alone, strict=True))
        return self

    def generate(
        self,
        n: int,
        *,
        given: Mapping[str, Sequence[Any]] | None = None,
        prior: str | None = None,
        seed: int = 0,
        sample: bool = False,
    ) -> dict[str, list[Any]]:
        """Generate n rows of every modality, as ``FusionModel.generate`` does; the same for the same seed.

        Raises:
            DataError: n is below 1, or what is given does not fit. FusionError: a discriminator lets nothing through.
        """
        if n < 1:
            raise DataError("nothing to generate", expected="n of at least 1", actual=str(n))
        for model in self.members_.values():
            model.check_names(given or {}, n)
        rng = np.random.default_rng([seed, 0])
        who = rng.permutation(np.repeat(range(len(self.weights_)), counts(self.weights_, n, rng)))
        found: dict[str, list[Any]] = {}
        for i in np.unique(who):
            rows = (who == i).nonzero()[0]
            part = {m: [column[r] for r in rows] for m, column in (given or {}).items()}
            drawing = self._drawing(int(i), {"prior": prior, "sample": sample})
            own = int(np.random.SeedSequence([seed, 1, int(i)]).generate_state(1)[0])
            for m, raws in drawing.draw(len(rows), part, own).items():
                column = found.setdefault(m, [None] * n)
                for row, raw in zip(rows, raws, strict=True):
                    column[row] = raw
        return found

    def _drawing(self, i: int, options: Mapping[str, Any], *, reject: bool | None = None) -> Drawing:
        name = list(self.members_)[i]
        reject = self.rejection if reject is None else reject
        rest = self.score, self.slopes_[name], self.percentile, self.burn_in, self.rounds
        return Drawing(name, self.members_[name], options, reject, *rest)

    def _drawn(self, i: int, whole: Rows, reject: bool) -> dict[str, Any]:
        """Draw columns from a member, with the conditions that it has, taken from real rows."""
        model = list(self.members_.values())[i]
        given = {m: [whole[r % len(whole)].get(m) for r in range(self.samples)] for m in conditions(model, whole)}
        return {**self._drawing(i, {}, reject=reject).draw(self.samples, given, self.seed + i), **given}

    def _rows(self, i: int, whole: Rows) -> Rows:
        return list(Table(self._drawn(i, whole, self.rejection)))

    def _slope(self, i: int, whole: Rows) -> float:
        name, model = list(self.members_.items())[i]
        fake = self._drawn(i, whole, reject=False)
        real = {m: [row[m] for row in whole] for m in fake}
        where = f"member {name!r}"
        return slope_of(scores_of(model, real, self.score, where), scores_of(model, fake, self.score, where))
