"""Ensembles of generators, on models whose density and discriminator are known in closed form."""

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from scipy.stats import chisquare, kstest
from torch import Tensor
from torch.distributions import Normal

from fusion_engine import (
    ConfigError,
    DataError,
    Decoder,
    DistributionLikelihood,
    Encoder,
    Engine,
    Features,
    FusionError,
    FusionModel,
    Head,
    Likelihood,
    Modality,
    Registry,
    Signal,
    Widths,
    hookimpl,
    realness,
)
from fusion_engine.evaluation import manifold, modes
from fusion_engine_ensembles.generators import GeneratorEnsemble
from fusion_engine_ensembles.mixing import best_weights, counts, expected_coverage, rates
from fusion_engine_ensembles.rejection import Threshold, slope_of

ANGLES = torch.arange(8) * math.tau / 8
RING = torch.stack([ANGLES.cos(), ANGLES.sin()], 1) * 2
DEVIATION, BOX = 0.1, 3.0
"""Junk is uniform in a square from -BOX to BOX."""
Shares = list[Annotated[float, Field(ge=0)]]


def density(x: Tensor, shares: Shares, junk: float) -> Tensor:
    """(1 - junk) sum_k shares_k N(x; centre_k, deviation) + junk U(x)."""
    weights = torch.tensor(shares, dtype=x.dtype) / sum(shares)
    at = Normal(RING.to(x), DEVIATION).log_prob(x[:, None]).sum(-1).exp()
    inside = (x.abs() <= BOX).all(-1)
    found: Tensor = (1 - junk) * at @ weights + junk * inside / (2 * BOX) ** 2
    return found


class Ring(Decoder):
    """x = a mode's centre + deviation * noise, or junk, by shares of z's first number; a condition shifts it."""

    def __init__(
        self,
        latent: int,
        modality: Modality,
        conditions: Mapping[str, Widths] | None = None,
        *,
        shares: Shares,
        junk: float = 0.0,
    ) -> None:
        super().__init__(latent, modality, conditions)
        self.shares, self.junk = shares, junk
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, z: Float[Tensor, "*k b z"], conditions: Mapping[str, Features]) -> Likelihood:
        """Decode."""
        u = Normal(0.0, 1.0).cdf(z.double())
        edges = torch.tensor(self.shares, dtype=torch.float64).cumsum(0) / sum(self.shares) * (1 - self.junk)
        mode = torch.searchsorted(edges, u[..., 0].contiguous())
        good = RING[mode.clamp(max=7)] + DEVIATION * z[..., 1:]
        x = torch.where((mode > 7)[..., None], (BOX * (2 * u[..., 1:] - 1)).float(), good) + self.anchor
        x = x + sum(c.pooled for c in conditions.values())
        return DistributionLikelihood(Normal(x, 1e-3, validate_args=False), z.ndim - 2)


class AsItIs(Encoder):
    """The vector itself."""

    def __init__(self, modality: Modality) -> None:
        super().__init__(modality, 2)

    def encode(self, x: Float[Tensor, "b d"], signal: Signal) -> Features:
        """Wrap."""
        return Features.of_pooled(x)


class Analytic(Head):
    """slope * (log p_data(x) / p_model(x) + constant), of the even ring and a model; conditions shift."""

    realness = True

    def __init__(
        self, inputs: Mapping[str, Widths], modality: None = None, *, shares: Shares, junk: float, slope: float = 1.0
    ) -> None:
        super().__init__(inputs, modality, 1)
        self.shares, self.junk, self.slope = shares, junk, slope

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b 1"]:
        """Score."""
        x, *shift = (x.double() for x in self.pooled(features, present))
        x = x - sum(shift) if shift else x
        real, fake = density(x, [1.0] * 8, 0.0), density(x, self.shares, self.junk)
        return self.slope * ((real + 1e-30).log() - (fake + 1e-30).log() + 7)[:, None]


@hookimpl
def register_components(registry: Registry) -> None:
    """Register everything."""
    registry.decoder("ring", Ring)
    registry.encoder("as_it_is", AsItIs)
    registry.head("analytic", Analytic)


TOYS = Path(__file__).parents[2] / "toys.py"
ENGINE = Engine(plugins=[TOYS, sys.modules[__name__]])
EVEN = [1.0] * 8


def some(*chosen: int) -> list[float]:
    return [float(k in chosen) for k in range(8)]


def model(shares: list[float], junk: float = 0.0, slope: float = 1.0, conditional: bool = False) -> FusionModel:
    vector = {"use": "modality/toys.vector", "with": {"size": 2}}
    shift = {"shift": vector} if conditional else {}
    z = {"z": "noise", "shift": "look_shift"} if conditional else {"z": "noise"}
    nodes: dict[str, Any] = {
        "noise": {"use": "prior/normal", "with": {"latent": 3}},
        "make": {"use": "decoder/ring", "in": z, "out": "x", "with": {"shares": shares, "junk": junk}},
        "look": {"use": "encoder/as_it_is", "in": "x"},
        "score": {
            "use": "head/analytic",
            "in": ["look", "look_shift"] if conditional else "look",
            "with": {"shares": shares, "junk": junk, "slope": slope},
        },
    }
    nodes |= {"look_shift": {"use": "encoder/as_it_is", "in": "shift"}} if conditional else {}
    return ENGINE.build({"modalities": {"x": vector, **shift}, "nodes": nodes})


def real(n: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return RING[torch.arange(n) % 8] + DEVIATION * torch.randn(n, 2, generator=g)


def rows(n: int, seed: int = 0) -> list[dict[str, Any]]:
    return [{"x": x} for x in real(n, seed).tolist()]


def samples(generator: Any, n: int, **options: Any) -> Tensor:
    return torch.tensor(generator.generate(n, **options)["x"])


def nearest(x: Tensor) -> Tensor:
    return torch.cdist(x, RING).argmin(1)


# Mixtures


def test_a_mixture_covers_more_than_its_best_member() -> None:
    members = [model(some(0, 1, 2)), model(some(2, 3, 4, 5)), model(some(4, 5, 6, 7))]
    ensemble = GeneratorEnsemble(members).fit(rows(400))
    test = real(400, 1)
    alone = [manifold(test, samples(m, 400)).coverage for m in members]
    together = manifold(test, samples(ensemble, 400)).coverage
    assert together > max(alone) + 0.25
    assert modes(samples(ensemble, 800), RING, DEVIATION).hit == 8
    assert max(modes(samples(m, 800), RING, DEVIATION).hit for m in members) == 4
    assert ensemble.coverage_ > max(ensemble.member_coverages_.values()) + 0.25
    assert together == pytest.approx(ensemble.coverage_, abs=0.08)


def test_validation_finds_the_proportions() -> None:
    """Members of 6 and 2 modes and one of nothing but junk: modes get equal samples at 3 : 1 : 0."""
    members = [("six", model(some(0, 1, 2, 3, 4, 5))), ("two", model(some(6, 7))), ("junk", model(EVEN, junk=1.0))]
    ensemble = GeneratorEnsemble(members, samples=2500).fit(rows(400))
    assert ensemble.weights_ == pytest.approx([0.75, 0.25, 0.0], abs=0.03)
    given = GeneratorEnsemble(members, weights=[1.0, 1.0, 2.0]).fit(rows(100))
    assert given.weights_ == pytest.approx([0.25, 0.25, 0.5])


def test_weights_by_features_of_the_callers() -> None:
    """Seen by the upper half plane alone, the member of the lower one is worth nothing."""
    members = [model(some(1, 2, 3)), model(some(5, 6, 7))]
    upper = [row for row in rows(400) if row["x"][1] > 1]
    found = GeneratorEnsemble(members).fit(upper, features=lambda rows: np.array([row["x"][:2] for row in rows]))
    assert found.weights_ == pytest.approx([1, 0], abs=1e-3)


def test_expected_coverage_is_that_of_drawn_mixtures() -> None:
    test, pools = real(60).numpy(), [samples(model(some(*k)), 3000).numpy() for k in ((0, 1, 2), (3, 4))]
    c, w = rates(test, pools, 3), np.array([0.7, 0.3])
    random = np.random.default_rng(0)
    found = []
    for _ in range(200):
        drawn = np.concatenate([pool[random.integers(3000, size=k)] for pool, k in zip(pools, (28, 12), strict=True)])
        found.append(manifold(torch.tensor(test), torch.tensor(drawn), k=3).coverage)
    assert expected_coverage(c, w, 40) == pytest.approx(np.mean(found), abs=3 * np.std(found) / np.sqrt(200))


def test_best_weights_are_those_of_a_grid() -> None:
    c = np.random.default_rng(0).gamma(0.2, 0.02, size=(3, 50))
    grid = [np.array([i, j, 40 - i - j]) / 40 for i in range(41) for j in range(41 - i)]
    best = max(expected_coverage(c, w, 100) for w in grid)
    found = best_weights(c, 100)
    assert found.sum() == pytest.approx(1)
    assert best <= expected_coverage(c, found, 100) + 1e-9
    assert expected_coverage(c, found, 100) == pytest.approx(best, abs=2e-3)


def test_counts_are_within_one_and_right_on_average() -> None:
    weights = np.array([0.55, 0.05, 0.4])
    drawn = np.array([counts(weights, 7, np.random.default_rng(s)) for s in range(4000)])
    assert (drawn.sum(1) == 7).all()
    assert (np.abs(drawn - 7 * weights) < 1).all()
    assert drawn.mean(0) == pytest.approx(7 * weights, abs=0.03)


def test_samples_are_shuffled_repeatable_and_leave_the_random_state() -> None:
    ensemble = GeneratorEnsemble([model(some(0)), model(some(4))], weights=[3.0, 1.0])
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    first, again, other = (samples(ensemble, 40, seed=s) for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    who = nearest(first)
    assert who.bincount(minlength=8).tolist() == [30, 0, 0, 0, 10, 0, 0, 0]
    assert not torch.equal(who, who.sort().values)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == np.random.get_state()[1].tolist()
    assert not torch.equal(first[who == 0][:10] - RING[0], first[who == 4] - RING[4])  # each member has its own noise
    assert len(samples(ensemble, 1)) == 1


@pytest.mark.parametrize("rejection", [False, True])
def test_each_row_is_made_for_the_one_given(rejection: bool) -> None:
    members = [model(some(0), 0.5, conditional=True), model(some(4), 0.5, conditional=True)]
    ensemble = GeneratorEnsemble(members, rejection=rejection, percentile=90.0, burn_in=300)
    shift = [[100.0 * i, -100.0 * i] for i in range(30)]
    x = samples(ensemble, 30, given={"shift": shift})
    apart = (x - torch.tensor(shift)).abs()
    assert float(apart.max()) <= BOX + 0.5
    good = (torch.cdist(x - torch.tensor(shift), RING).amin(1) < 4 * DEVIATION).double().mean()
    assert good == 1 if rejection else 0.3 < good < 0.9
    shifted = [{"x": [a + 5, b], "shift": [5.0, 0.0]} for a, b in real(400).tolist()]
    assert ensemble.fit(shifted[::4]).coverage_ > 0.5  # of modes 0 and 4, and only where the shift is passed on


# Rejection


def test_acceptance_is_the_density_ratio() -> None:
    scores = np.array([0.0, -0.5, -3.0, -20.0, 4.0])
    exact = Threshold(0.0).acceptance(scores)
    assert exact == pytest.approx([1, math.exp(-0.5), math.exp(-3), math.exp(-20), 1], rel=1e-6)
    strict = Threshold.of(np.linspace(-5, 0, 101), 80.0)
    assert strict.acceptance(np.array([-1.0])) == pytest.approx([0.5], abs=1e-6)  # the sample at the percentile
    by_paper = [-1 - math.log(1 - math.exp(-1 - 1e-8)), -2 - math.log(1 - math.exp(-2 - 1e-8))]
    assert strict.excess(np.array([-2.0])) == pytest.approx([by_paper[1] - by_paper[0]])


def test_what_is_kept_follows_the_data() -> None:
    """A generator of uneven modes and 40 % junk, through its perfect discriminator: the ring itself."""
    shares = [4.0, 1.0, 2.0, 1.0, 3.0, 1.0, 2.0, 2.0]
    junky = model(shares, junk=0.4)
    ensemble = GeneratorEnsemble([junky], rejection=True, percentile=None, burn_in=2000)
    raw, kept = samples(junky, 2000), samples(ensemble, 2000)
    assert modes(raw, RING, DEVIATION).near < 0.65
    assert modes(kept, RING, DEVIATION).near == pytest.approx(modes(kept, RING, DEVIATION).best, abs=0.01)
    assert chisquare(nearest(kept).bincount(minlength=8).numpy()).pvalue > 0.01
    assert chisquare(nearest(raw).bincount(minlength=8).numpy()).pvalue < 1e-6
    off = (kept - RING[nearest(kept)]) / DEVIATION
    assert all(kstest(off[:, i].numpy(), "norm").pvalue > 0.01 for i in range(2))
    assert manifold(real(1000), kept[:1000]).precision > manifold(real(1000), raw[:1000]).precision + 0.2
    assert torch.equal(kept, samples(ensemble, 2000))


def test_a_percentile_trades_precision_for_speed() -> None:
    junky = model(EVEN, junk=0.5)
    near = [
        modes(samples(GeneratorEnsemble([junky], rejection=True, percentile=p), 1000), RING, DEVIATION).near
        for p in (5.0, 80.0)
    ]
    assert modes(samples(junky, 1000), RING, DEVIATION).near < near[0] < near[1]
    assert near[1] > 0.97


def test_calibration_undoes_a_wrong_slope() -> None:
    """A discriminator of another game, its score a quarter of the log density ratio."""
    shares = [4.0, 1.0, 2.0, 1.0, 3.0, 1.0, 2.0, 2.0]
    flat = GeneratorEnsemble([model(shares, 0.2, slope=0.25)], rejection=True, percentile=None, samples=2000)
    uneven = chisquare(nearest(samples(flat, 1500)).bincount(minlength=8).numpy()).pvalue
    flat.fit(rows(2000))
    assert flat.slopes_["member0"] == pytest.approx(4, rel=0.15)
    assert uneven < 1e-6
    assert chisquare(nearest(samples(flat, 1500)).bincount(minlength=8).numpy()).pvalue > 1e-3


def test_slope_is_zero_where_the_score_says_nothing_or_the_opposite() -> None:
    g = np.random.default_rng(0)
    assert slope_of(np.zeros(9), np.zeros(9)) == 0
    assert slope_of(g.normal(-1, 1, 500), g.normal(1, 1, 500)) == 0
    assert slope_of(g.normal(1, 1, 20000), g.normal(-1, 1, 20000)) == pytest.approx(2, rel=0.05)  # log ratio is 2 d


# Words


def test_what_is_no_ensemble_is_refused() -> None:
    one, plain = model(EVEN), ENGINE.recipe("vae", modalities={"y": "modality/toys.vector"}, latent=2)
    for members, message in (
        ([], "names of their own"),
        ([("a", one), ("a", one)], "names of their own"),
        ([object()], "no model"),
        ([one, plain], "same modalities"),
    ):
        with pytest.raises(ConfigError, match=message):
            GeneratorEnsemble(members)
    for weights in ([1.0], [0.0, 0.0], [-1.0, 2.0]):
        with pytest.raises(ConfigError, match="weights"):
            GeneratorEnsemble([one, one], weights=weights)
    with pytest.raises(DataError, match="n of at least 1"):
        GeneratorEnsemble([one]).generate(0)
    with pytest.raises(DataError, match="no modality 'z'"):
        GeneratorEnsemble([one]).generate(1, given={"z": [1]})
    with pytest.raises(DataError, match="too few"):
        GeneratorEnsemble([one]).fit(rows(5))
    with pytest.raises(FusionError, match="no head that scores"):
        GeneratorEnsemble([plain], rejection=True).generate(2)
    with pytest.raises(FusionError, match=r"let no sample through for \d+ of 200 rows"):
        GeneratorEnsemble([model(EVEN, 1.0)], rejection=True, percentile=None, rounds=1).generate(200)
    with pytest.raises(DataError, match="finite matrix"):
        GeneratorEnsemble([one]).fit(rows(20), features=lambda rows: np.full([len(rows), 2], np.nan))


# Realness


def test_realness_is_what_the_head_says() -> None:
    one = model([2.0, *EVEN[1:]], 0.3)
    x = torch.cat([real(300), torch.rand(300, 2) * 6 - 3])
    expected = (density(x.double(), EVEN, 0.0) + 1e-30).log() - density(x.double(), [2.0, *EVEN[1:]], 0.3).log() + 7
    for data in ({"x": x.tolist()}, [{"x": row} for row in x.tolist()], {"x": Signal(x)}):
        torch.testing.assert_close(realness(one, data), expected)
    drawn = one.generated_signals(5)
    assert not realness(one, drawn).requires_grad
    torch.testing.assert_close(realness(one, drawn, "score"), realness(one, one.generate(5)))


def test_realness_of_rows_with_gaps_and_conditions() -> None:
    one = model(EVEN, conditional=True)
    x, shift = real(300), torch.randn(300, 2)
    both = realness(one, {"x": Signal(x + shift), "shift": shift.tolist()})
    torch.testing.assert_close(both, realness(one, {"x": (x + shift).tolist(), "shift": shift.tolist()}))
    torch.testing.assert_close(both, realness(one, {"x": x.tolist()}), rtol=1e-3, atol=1e-3)
    gaps = realness(one, {"x": [*x[:2].tolist(), None], "shift": [None, [0.0, 0.0], None]})
    torch.testing.assert_close(gaps[:2], realness(one, {"x": x[:2].tolist()}))
    assert gaps.isnan().tolist() == [False, False, True]


def test_realness_in_words() -> None:
    one, plain = model(EVEN), ENGINE.recipe("vae", modalities={"y": "modality/toys.vector"}, latent=2)
    with pytest.raises(FusionError, match="no head that scores"):
        realness(plain, {"y": [[0.0, 0.0, 0.0]]})
    with pytest.raises(FusionError, match="did you mean 'score'"):
        realness(one, {"x": [[0.0, 0.0]]}, "scores")
    with pytest.raises(DataError, match="reads none"):
        realness(one, {"z": [[0.0, 0.0]]})
    with pytest.raises(DataError, match="reads none"):
        realness(one, {"z": Signal(torch.zeros(1, 2))})


def test_a_trained_gan_keeps_its_discriminator(tmp_path: Path) -> None:
    gan = ENGINE.recipe("gan", modalities={"x": "modality/number"}, latent=2, epochs=1)
    data = {"x": real(200).tolist()}
    gan.fit(data).save(tmp_path / "gan")
    loaded = Engine().load(tmp_path / "gan")
    found = realness(loaded, data)
    assert torch.equal(found, realness(gan, data))
    assert float(found.std()) > 0
    ensemble = GeneratorEnsemble([("a", gan), ("b", loaded)], rejection=True, samples=200).fit(data)
    assert np.asarray(ensemble.generate(20)["x"]).shape == (20, 2)
