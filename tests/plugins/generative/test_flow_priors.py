"""Flows: the density by autograd's Jacobian and on a grid, the map and its inverse, fits against known densities."""

import math

import pytest
import torch
from sklearn.datasets import make_moons
from torch.distributions import MultivariateNormal, Normal
from torch.testing import assert_close

from fusion_engine import FusionError, Noise
from fusion_engine_generative.priors.coupling import masks
from fusion_engine_generative.priors.fitted_flow import REGULARISATION, FittedFlow
from fusion_engine_generative.priors.flow import FlowPrior


def trained(latent=3, layers=6, width=8, seed=0):
    """A flow far from the identity, in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        prior = FlowPrior(latent=latent, layers=layers, width=width).double()
        with torch.no_grad():
            for p in prior.parameters():
                p.add_(0.5 * torch.randn_like(p))
    return prior


def moons(n, seed):
    return torch.from_numpy(make_moons(n, noise=0.1, random_state=seed)[0]).float()


def banana(n, seed):
    """z = (a, a^2 + b / 2) of standard normal a, b: its entropy is log(2 pi e) - log 2."""
    a, b = torch.randn(2, n, generator=torch.Generator().manual_seed(seed))
    return torch.stack([a, a.square() + b / 2], 1)


@pytest.mark.parametrize("latent", [2, 3, 8, 32, 33])
def test_every_number_is_conditioned_on_every_other(latent):
    keep = masks(latent, 2 * math.ceil(math.log2(latent)))
    for i in range(latent):
        for j in range(latent):
            assert i == j or (keep[:, i] & ~keep[:, j]).any()


def test_the_inverse_undoes_the_map_under_sample_axes():
    flow = trained().flow(5)
    u = torch.randn(2, 4, 5, 3, generator=torch.Generator().manual_seed(1)).double()
    z = flow.couplings.forward(u)
    assert not torch.allclose(z, u, atol=0.5)
    assert_close(flow.couplings.inverse(z)[0], u)


def test_the_density_is_a_change_of_variables_by_autograd():
    prior = trained()
    flow = prior.flow(6)
    u = torch.randn(6, 3, generator=torch.Generator().manual_seed(1)).double()
    z = flow.at(u)
    expected = []
    for row in u:
        jacobian = torch.autograd.functional.jacobian(lambda x: flow.at(x[None])[0], row)
        expected.append(Normal(0.0, 1.0).log_prob(row).sum() - jacobian.det().abs().log())
    assert_close(flow.log_prob(z), torch.stack(expected))
    assert_close(flow.log_prob(z.expand(2, 4, 6, 3)), torch.stack(expected).expand(2, 4, 6))


def grid(low=-12.0, high=12.0, n=601):
    axis = torch.linspace(low, high, n, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), ((high - low) / (n - 1)) ** 2


def test_the_density_integrates_to_one_and_draws_have_its_mean():
    prior = trained(latent=2, layers=4)
    points, cell = grid()
    mass = prior.flow(1).log_prob(points[:, None]).exp()[:, 0] * cell
    assert_close(mass.sum(), torch.tensor(1.0).double(), atol=1e-3, rtol=0)
    drawn = prior(40_000).sampled(Noise.of(40_000, seed=2)).z
    mean = (points * mass[:, None]).sum(0)
    assert_close(drawn.mean(0), mean, atol=0.05, rtol=0)
    for cut in (-0.94, 0.02, 1.06):  # between two points of the grid
        right = mass[points[:, 0] > cut].sum()
        assert_close((drawn[:, 0] > cut).double().mean(), right, atol=0.01, rtol=0)


def test_it_starts_as_the_standard_normal_and_draws_its_noise():
    prior, noise = FlowPrior(latent=4, width=8), Noise.of(5, seed=3)
    post = prior(5)
    assert_close(post.distribution.log_prob(noise.normal(4)), Normal(0.0, 1.0).log_prob(noise.normal(4)).sum(-1))
    assert_close(post.sampled(noise).z, noise.normal(4))
    assert_close(post.z, torch.zeros(5, 4))
    assert torch.equal(post.kl(), torch.zeros(5))


def test_z_is_the_image_of_zero_and_rows_may_be_split():
    prior = trained()
    assert_close(prior(2).z, prior.flow(2).at(torch.zeros(2, 3).double()))
    whole = prior(10).sampled(Noise.of(10, seed=4)).z
    even, odd = (prior(5).sampled(Noise(4, torch.arange(start, 10, 2), 10)).z for start in (0, 1))
    assert_close(torch.stack([even, odd], 1).flatten(0, 1), whole)


def fitted(x, **options):
    prior = FittedFlow(latent=x.shape[1], **{"layers": 6, "width": 16, "epochs": 40, **options})
    prior.fit(x)
    return prior


@pytest.fixture(scope="module")
def bent():
    return fitted(banana(800, 0))


def gain(prior, x, new):
    """How much more likely new points are than under one Gaussian."""
    gaussian = MultivariateNormal(x.mean(0), x.T.cov()).log_prob(new).mean()
    return prior(1).distribution.log_prob(new).mean() - gaussian


def test_a_fit_beats_a_gaussian_and_comes_near_the_entropy(bent):
    x, new = banana(800, 0), banana(4000, 1)
    assert gain(bent, x, new) > 0.4
    entropy = math.log(2 * math.pi * math.e) - math.log(2)
    assert -entropy - 0.2 < bent(1).distribution.log_prob(new).mean() < -entropy + 0.05
    assert gain(fitted(moons(600, 0)), moons(600, 0), moons(4000, 1)) > 0.3


def test_draws_of_a_fit_lie_where_the_latents_lie(bent):
    drawn = bent(4000).sampled(Noise.of(4000)).z
    away = (drawn[:, 1] - drawn[:, 0].square()).abs()  # half of a normal number's size, whose median is 0.674
    assert_close(away.median(), torch.tensor(0.337), atol=0.08, rtol=0)
    assert_close(drawn.mean(0), banana(800, 0).mean(0), atol=0.15, rtol=0)


def test_a_fit_is_whole_and_the_same_for_the_same_latents_and_touches_no_random_state():
    x = moons(200, 0)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first = fitted(x, epochs=3)
    assert torch.equal(torch.rand(1), expected)
    second = fitted(x, epochs=3)
    with torch.no_grad():
        third = fitted(x, epochs=3)
    other = FittedFlow(latent=2, layers=6, width=16, epochs=3)
    other.load_state_dict(first.state_dict())
    assert not list(first.parameters())
    for prior in (second, third, other):
        assert all(torch.equal(a, b) for a, b in zip(first.buffers(), prior.buffers(), strict=True))
        assert torch.equal(prior(4).sampled(Noise.of(4)).z, first(4).sampled(Noise.of(4)).z)
    assert bool(other.fitted)
    first.fit(moons(200, 1))
    assert not torch.equal(first.first, second.first)


def test_a_fitted_density_integrates_to_one():
    prior = fitted(banana(300, 0), width=8, epochs=10).double()
    points, cell = grid(-14, 22, 361)
    mass = prior(1).distribution.log_prob(points[:, None]).exp().sum() * cell
    assert_close(mass, torch.tensor(1.0).double(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("n", [1, 2, 19])
def test_few_latents_get_one_gaussian(n):
    x = moons(n, 0)
    covariance = (x - x.mean(0)).T @ (x - x.mean(0)) / n + REGULARISATION * torch.eye(2)
    points = moons(5, 1)
    assert_close(
        fitted(x)(5).distribution.log_prob(points),
        MultivariateNormal(x.mean(0), covariance).log_prob(points),
        rtol=1e-3,
        atol=1e-3,
    )


def test_noise_gets_a_fit_that_is_no_worse_than_its_gaussian():
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        4, 4, generator=torch.Generator().manual_seed(1)
    )
    held = x[torch.randperm(400, generator=torch.Generator().manual_seed(0))]
    gaussian = MultivariateNormal(held[40:].mean(0), held[40:].T.cov(correction=0) + REGULARISATION * torch.eye(4))
    found = fitted(x, epochs=20)(1).distribution.log_prob(held[:40]).mean()
    assert found > gaussian.log_prob(held[:40]).mean() - 1e-4


def test_unfitted_is_the_standard_normal():
    prior, points = FittedFlow(latent=4), torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    assert_close(prior(6).distribution.log_prob(points), Normal(0.0, 1.0).log_prob(points).sum(-1))
    assert not bool(prior.fitted)


@pytest.mark.parametrize("latents", [torch.empty(0, 2), torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])])
def test_refuses_latents_that_are_none_or_not_finite(latents):
    with pytest.raises(FusionError, match="cannot be fitted"):
        FittedFlow(latent=2).fit(latents)
