"""The VampPrior: equal to a loop over pseudo-inputs and components, and shared with the posterior's own weights."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from fusion_engine import Features, Noise, Widths
from fusion_engine_generative.posteriors.gaussian import GaussianPosterior
from fusion_engine_generative.posteriors.mopoe import MoPoEPosterior
from fusion_engine_generative.posteriors.mvae import MVAEPosterior
from fusion_engine_generative.posteriors.poe import PoEPosterior
from fusion_engine_generative.posteriors.random_subset import RandomSubsetPosterior
from fusion_engine_generative.priors.vamp import VampPrior

INPUTS = {"a.b": Widths(4, 3), "keys": Widths(2, 5)}
EVERY = [GaussianPosterior, PoEPosterior, MoPoEPosterior, MVAEPosterior, RandomSubsetPosterior]


def pair(kind, components=4, latent=2):
    """A prior and the network that it is of, in double precision."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = kind(INPUTS, latent=latent).double()
        return VampPrior(INPUTS, latent=latent, components=components).double(), network


def at(prior, i) -> Mapping[str, Features]:
    """Pseudo-input i as a batch of one."""
    return {name: Features.of_pooled(pseudo[i : i + 1]) for name, pseudo in zip(INPUTS, prior.pseudo, strict=True)}


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_it_is_the_mixture_of_the_posterior_at_each_pseudo_input(kind):
    prior, network = pair(kind)
    z = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(2)).double()
    density, mean = torch.zeros(3, 5).double(), torch.zeros(2).double()
    for i in range(4):
        q = network(at(prior, i), torch.ones(1, 2, dtype=torch.bool))
        loc, scale = q.distribution.loc.reshape(-1, 2), q.distribution.scale.reshape(-1, 2)
        for share, m, s in zip(q.weights.reshape(-1), loc, scale, strict=True):
            density = density + share / 4 * Normal(m, s).log_prob(z).sum(-1).exp()
            mean = mean + share / 4 * m
    post = prior(5, network)
    assert_close(post.distribution.log_prob(z), density.log())
    assert_close(post.z, mean.expand(5, 2))
    assert post.distribution.batch_shape == (5,)
    assert post.distribution.event_shape == (2,)


def test_draws_come_from_each_component_by_its_weight():
    prior, network = pair(MoPoEPosterior, components=3, latent=1)
    n = 60_000
    post = prior(n, network)
    z = post.sampled(Noise.of(n, seed=3)).z
    for cut in (-1.0, -0.3, 0.0, 0.4, 1.2):
        expected = torch.zeros(()).double()
        for i in range(3):
            q = network(at(prior, i), torch.ones(1, 2, dtype=torch.bool))
            expected = expected + (q.weights * q.distribution.cdf(torch.tensor(cut).double())[..., 0]).sum() / 3
        assert_close((z <= cut).double().mean(), expected, atol=0.008, rtol=0)
    even = prior(n // 2, network).sampled(Noise(3, torch.arange(0, n, 2), n)).z
    assert_close(even, z[::2])


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.__name__)
def test_gradients_reach_the_pseudo_inputs_and_the_posterior_and_are_finite(kind):
    prior, network = pair(kind)
    post = prior(5, network)
    z = post.sampled(Noise.of(5)).z
    (post.distribution.log_prob(z.detach()).sum() + z.sum()).backward()
    for p in (*prior.parameters(), *network.parameters()):
        assert p.grad.isfinite().all()
        assert (p.grad != 0).any()


def test_it_owns_its_pseudo_inputs_alone():
    prior, network = pair(GaussianPosterior)
    prior(2, network)
    assert {n: tuple(p.shape) for n, p in prior.named_parameters()} == {"pseudo.0": (4, 3), "pseudo.1": (4, 5)}
    assert set(prior.state_dict()) == {"pseudo.0", "pseudo.1"}


def test_the_network_is_called_once_with_everything_present():
    prior, network = pair(PoEPosterior)
    seen = []

    def infer(network, features, present):
        seen.append((features, present))
        return network(features, present)

    prior(3, partial(infer, network))
    ((features, present),) = seen
    assert present.all()
    assert present.shape == (4, 2)
    assert [f.widths for f in features.values()] == list(INPUTS.values())
    assert not any(f.mask.any() for f in features.values())
