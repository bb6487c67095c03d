import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch.distributions import MixtureSameFamily, MultivariateNormal, Normal
from torch.testing import assert_close

from fusion_engine import FusionError, Noise, Posterior
from fusion_engine_generative.priors.mixture import REGULARISATION, MixturePrior
from fusion_engine_generative.priors.normal import StandardNormal


def blobs(n=600, seed=0):
    """Three blobs in the plane, of shares 1/2, 1/3, 1/6, each with a covariance of its own."""
    rng = np.random.default_rng(seed)
    means, shapes = [[-4, 0], [4, 1], [0, 6]], [[[1, 0.8], [0.8, 1]], [[0.2, 0], [0, 2]], [[0.5, -0.3], [-0.3, 0.5]]]
    parts = [rng.multivariate_normal(m, c, n * s // 6) for m, c, s in zip(means, shapes, (3, 2, 1), strict=True)]
    return torch.from_numpy(np.concatenate(parts)).float()


def fitted(components=3, x=None):
    prior = MixturePrior(latent=2, components=components)
    prior.fit(blobs() if x is None else x)
    return prior


def test_standard_normal():
    post = StandardNormal(latent=3)(5)
    assert_close(
        post.distribution.log_prob(torch.full((5, 3), 0.5)), torch.full((5, 3), -0.125 - 0.5 * np.log(2 * np.pi))
    )
    assert torch.equal(post.z, torch.zeros(5, 3))
    assert torch.equal(post.kl(), torch.zeros(5))
    assert torch.equal(post.weights, torch.ones(5))
    noise = Noise.of(5, seed=3)
    assert torch.equal(post.sampled(noise).z, noise.normal(3))
    assert not StandardNormal.fits


def test_standard_normal_follows_its_module_to_another_dtype():
    assert StandardNormal(latent=3).double()(2).z.dtype == torch.float64


def test_density_equals_scikit_learn():
    reference = GaussianMixture(3, reg_covar=REGULARISATION, max_iter=1000, random_state=0).fit(
        blobs().double().numpy()
    )
    points = torch.randn(50, 2, generator=torch.Generator().manual_seed(1)) * 5
    found = fitted()(50).distribution.log_prob(points)
    assert_close(found, torch.from_numpy(reference.score_samples(points.numpy())).float(), rtol=1e-4, atol=1e-3)


def test_fit_finds_the_blobs():
    prior = fitted()
    order = prior.weights.argsort(descending=True)
    assert_close(prior.weights[order], torch.tensor([3, 2, 1]) / 6, atol=0.01, rtol=0)
    assert_close(prior.means[order], torch.tensor([[-4.0, 0], [4, 1], [0, 6]]), atol=0.25, rtol=0)
    first = prior.factors[order[0]]
    assert_close(first @ first.T, torch.tensor([[1.0, 0.8], [0.8, 1]]), atol=0.2, rtol=0)


def test_samples_have_the_moments_of_the_mixture():
    prior = fitted()
    n = 40_000
    post = prior(n).sampled(Noise.of(n, seed=2))
    assert_close(post.z.mean(0), blobs().mean(0), atol=0.08, rtol=0)
    assert_close(post.z.T.cov(), blobs().T.cov(), atol=0.2, rtol=0)
    near = torch.cdist(post.z, prior.means).argmin(1).bincount(minlength=3) / n
    assert_close(near, prior.weights, atol=0.01, rtol=0)


def test_z_is_the_mean_and_shapes_are_the_contract():
    post = fitted(8)(7)
    assert post.distribution.batch_shape == (7,)
    assert post.distribution.event_shape == (2,)
    assert isinstance(post.distribution, MixtureSameFamily)
    assert isinstance(post.distribution.component_distribution, MultivariateNormal)
    assert_close(post.z, blobs().mean(0).expand(7, 2), atol=1e-3, rtol=1e-3)
    assert torch.equal(post.weights, torch.ones(7))
    assert post.kl().shape == (7,)
    assert torch.equal(post.one(Noise.of(7)).z, post.z)


def test_fitted_and_fit_again_are_the_same_and_load_strictly(tmp_path):
    first, second = fitted(8), fitted(8)
    other = MixturePrior(latent=2, components=8)
    other.load_state_dict(first.state_dict())
    for prior in (second, other):
        assert all(torch.equal(a, b) for a, b in zip(first.buffers(), prior.buffers(), strict=True))
    assert bool(other.fitted)
    assert torch.equal(other(4).sampled(Noise.of(4)).z, first(4).sampled(Noise.of(4)).z)


def test_fit_leaves_the_global_random_states_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(5)
    np.random.seed(5)
    prior = fitted()
    prior(3).sampled(Noise.of(3))
    assert (torch.rand(1), np.random.rand()) == expected


def test_unfitted_is_the_standard_normal():
    prior = MixturePrior(latent=4, components=5)
    points = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    assert_close(prior(6).distribution.log_prob(points), Normal(0.0, 1.0).log_prob(points).sum(-1))
    drawn = prior(20_000).sampled(Noise.of(20_000)).z
    assert_close(drawn.T.cov(), torch.eye(4), atol=0.05, rtol=0)
    assert not bool(prior.fitted)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_fewer_latents_than_components_use_fewer_components(n):
    x = blobs()[torch.randperm(600, generator=torch.Generator().manual_seed(0))[:n]]
    prior = fitted(8, x)
    assert (prior.weights > 0).sum() == max(1, n // 3)
    assert_close(prior.weights.sum(), torch.tensor(1.0))
    assert_close(prior(1).z[0], x.mean(0), atol=1e-4, rtol=1e-4)
    assert prior(4).sampled(Noise.of(4)).z.isfinite().all()
    assert prior(n).distribution.log_prob(x).isfinite().all()


def test_unused_components_are_neither_drawn_nor_weighed():
    lone = fitted(8, torch.full((20, 2), 3.0))
    far = torch.tensor([[40.0, 3.0]])
    covariance = REGULARISATION * torch.eye(2)
    assert_close(
        lone(1).distribution.log_prob(far), MultivariateNormal(torch.tensor([3.0, 3.0]), covariance).log_prob(far)
    )
    assert (lone(1000).sampled(Noise.of(1000)).z - 3).abs().max() < 0.1


def test_fitting_again_forgets_the_first_fit():
    prior = fitted(8)
    prior.fit(torch.full((20, 2), 3.0))
    assert prior.weights.tolist() == [1.0] + [0.0] * 7
    assert torch.equal(prior.factors[1:], torch.eye(2).expand(7, 2, 2))


@pytest.mark.parametrize("latents", [torch.empty(0, 2), torch.tensor([[0.0, 1.0], [float("nan"), 0.0]])])
def test_refuses_latents_that_are_none_or_not_finite(latents):
    with pytest.raises(FusionError, match="cannot be fitted"):
        MixturePrior(latent=2).fit(latents)


def test_draws_are_the_same_however_the_rows_are_split():
    prior = fitted()
    whole = prior(10).sampled(Noise.of(10, seed=4)).z
    parts = [
        prior(len(rows)).sampled(Noise(4, rows, 10)).z for rows in (torch.arange(0, 10, 2), torch.arange(1, 10, 2))
    ]
    assert_close(torch.stack(parts, 1).flatten(0, 1), whole)


def grid(n=401, reach=12.0):
    axis = torch.linspace(-reach, reach, n, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis), float((axis[1] - axis[0]) ** 2)


def informed(loc, scale, infer=True):
    """A mixture fitted to the blobs, and a posterior under N(0, I)."""
    prior = MixturePrior(latent=2, components=3, infer=infer)
    prior.fit(blobs())
    loc, scale = torch.tensor(loc).double(), torch.tensor(scale).double()
    return prior.double(), Posterior.of(Normal(loc, scale), Normal(torch.zeros_like(loc), torch.ones_like(loc)))


def test_inference_under_the_mixture_is_the_product_of_densities_on_a_grid():
    prior, q = informed([[0.0, 0.0], [-2.0, 0.3], [0.1, 2.0]], [[1.0, 1.0], [0.7, 0.95], [0.9, 0.4]])
    found = prior.infer(q)
    points, area = grid()
    for row in range(3):
        log_q = Normal(q.distribution.loc[row], q.distribution.scale[row]).log_prob(points).sum(-1)
        log_p = Normal(0.0, 1.0).log_prob(points).sum(-1)
        log_mixture = prior(len(points)).distribution.log_prob(points)
        density = (log_mixture + log_q - log_p).exp()
        density = density / (density.sum() * area)
        assert_close(found.z[row], (density[:, None] * points).sum(0) * area, atol=1e-4, rtol=1e-4)
        own = found.distribution.log_prob(points[:, None].expand(-1, 3, -1))[:, row]
        assert_close(own.exp(), density, atol=1e-6, rtol=1e-4)


def test_what_says_nothing_infers_the_mixture_itself_and_what_is_sharp_stays():
    prior, q = informed([[0.0, 0.0], [3.0, -1.0]], [[1.0, 1.0], [1e-3, 1e-3]])
    found = prior.infer(q)
    assert_close(found.z[0], (prior.weights[:, None] * prior.means).sum(0))
    assert_close(found.z[1], torch.tensor([3.0, -1.0]).double(), atol=1e-3, rtol=0)


def test_draws_of_what_is_inferred_have_its_mean_and_covariance():
    n = 20000
    prior, q = informed([[-2.0, 0.3]] * n, [[0.7, 0.95]] * n)
    found = prior.infer(q)
    z = found.sampled(Noise.of(n, seed=2)).z
    assert_close(z.mean(0), found.z[0], atol=0.03, rtol=0)
    points, area = grid()
    _, q = informed([[-2.0, 0.3]], [[0.7, 0.95]])
    density = prior.infer(q).distribution.log_prob(points[:, None]).exp() * area
    assert_close(z.mT.cov(), points.mT.cov(aweights=density[:, 0], correction=0), atol=0.05, rtol=0)
    assert not torch.equal(z, found.sampled(Noise.of(n, seed=3)).z)


def test_inference_is_left_alone_until_the_mixture_is_fitted_and_where_it_is_not_asked():
    q = informed([[0.0, 0.0]], [[1.0, 1.0]])[1]
    assert MixturePrior(latent=2, infer=True).infer(q) is q
    prior, _ = informed([[0.0, 0.0]], [[1.0, 1.0]], infer=False)
    assert prior.infer(q) is q


def test_a_posterior_that_is_not_normal_is_refused_in_words():
    prior, _ = informed([[0.0, 0.0]], [[1.0, 1.0]])
    loc = torch.zeros(1, 2).double()
    laplace = torch.distributions.Laplace(loc, loc + 1)
    with pytest.raises(FusionError, match="a mixture cannot infer") as caught:
        prior.infer(Posterior.of(laplace, laplace))
    assert "Laplace under Laplace" in str(caught.value)
    assert "leave 'infer' out" in str(caught.value)
