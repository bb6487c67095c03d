"""Generalised products, mixtures of experts, joint networks and cross-private latents, row by row and on grids."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from fusion_engine import ConfigError, Features, Noise, Widths
from fusion_engine_generative.posteriors.experts import BOUND, single_shares, weighted_product
from fusion_engine_generative.posteriors.generalised_poe import GeneralisedPoEPosterior
from fusion_engine_generative.posteriors.jmvae import JMVAEPosterior
from fusion_engine_generative.posteriors.mmvae_plus import CrossPrivatePosterior
from fusion_engine_generative.posteriors.moe import MoEPosterior

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2), "text": Widths(6, 6)}
PRESENT = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 0, 1]]).bool()
GRID = torch.linspace(-40, 40, 80_001, dtype=torch.float64)


def vectors(b=5):
    torch.manual_seed(0)
    return {n: torch.randn(b, w.pooled, dtype=torch.float64) for n, w in WIDTHS.items()}


def make(kind, latent=4, **config):
    torch.manual_seed(1)
    module = kind(WIDTHS, latent=latent, **config).double()
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return module


def infer(module, given, present=PRESENT):
    return module({n: Features.of_pooled(x) for n, x in given.items()}, present)


def read(linear, x):
    loc, logvar = linear(x).chunk(2)
    return Normal(loc, (BOUND * torch.tanh(logvar / BOUND) / 2).exp())


def test_generalised_product_equals_the_product_of_powers_of_densities_on_a_grid():
    module, given = make(GeneralisedPoEPosterior, latent=1), vectors()
    post = infer(module, given)
    for row in range(5):
        held = [i for i in range(3) if PRESENT[row, i]]
        powers = torch.stack([module.powers[i, 0] for i in [*held, 3]]).exp()
        powers = powers / powers.sum()
        log = powers[-1] * Normal(0.0, 1.0).log_prob(GRID)
        for power, i in zip(powers, held, strict=False):
            log = log + power * read(module.experts.linears[i], given[list(WIDTHS)[i]][row]).log_prob(GRID)
        density = log.exp() / torch.trapezoid(log.exp(), GRID)
        found = Normal(post.distribution.loc[row], post.distribution.scale[row]).log_prob(GRID).exp()
        assert_close(found, density, rtol=1e-6, atol=1e-9)


def test_experts_that_say_the_same_as_the_prior_change_nothing_in_a_generalised_product():
    same = Normal(torch.full((4, 2, 3), 0.7).double(), torch.full((4, 2, 3), 0.3).double())
    exponents = torch.rand(4, 2, 3).double().softmax(0)
    found = weighted_product(same, exponents)
    assert_close(found.loc, same.loc[0])
    assert_close(found.scale, same.scale[0])


def test_mixture_of_experts_is_each_expert_alone_in_equal_shares():
    module, given = make(MoEPosterior), vectors()
    post = infer(module, given)
    assert post.z.shape == (3, 5, 4)
    for row in range(5):
        number = int(PRESENT[row].sum())
        for i, name in enumerate(WIDTHS):
            share = 1 / number if PRESENT[row, i] else (0.0 if number else 1 / 3)
            assert float(post.weights[i, row].detach()) == pytest.approx(share)
            one = read(module.experts.linears[i], given[name][row]) if PRESENT[row, i] else Normal(0.0, 1.0)
            assert_close(post.distribution.loc[i, row], one.loc.expand(4).double())
            assert_close(post.distribution.scale[i, row], one.scale.expand(4).double())


def test_joint_network_where_a_row_has_everything_and_the_product_of_experts_elsewhere():
    module, given = make(JMVAEPosterior), vectors()
    post = infer(module, given)
    joint = read(module.joint, torch.cat([x[0] for x in given.values()]))
    assert_close(post.distribution.loc[0], joint.loc)
    assert_close(post.distribution.scale[0], joint.scale)
    text = [read(module.experts.linears[2], given["text"][row]) for row in range(5)]
    for row, name, i in ((1, "keys", 1), (4, "image", 0)):
        other = read(module.experts.linears[i], given[name][row])
        precision = text[row].scale ** -2 + other.scale**-2
        moment = text[row].loc * text[row].scale ** -2 + other.loc * other.scale**-2
        assert_close(post.distribution.loc[row], moment / precision)
        assert_close(post.distribution.scale[row], precision**-0.5)
    alone = read(module.experts.linears[0], given["image"][2])
    assert_close(post.distribution.loc[2], alone.loc)
    assert_close(post.distribution.scale[2], alone.scale)


@pytest.mark.parametrize("own", list(WIDTHS))
def test_cross_private_infers_its_own_component_and_draws_the_others_anew(own):
    module, given = make(CrossPrivatePosterior, own=own), vectors()
    post = infer(module, given)
    place = list(WIDTHS).index(own)
    r = (BOUND * torch.tanh(module.auxiliary / BOUND) / 2).exp().detach()
    assert (r - 1).abs().min() > 1e-3
    for row in range(5):
        here = bool(PRESENT[row, place])
        for i in range(3):
            if i == place and here:
                q = read(module.linear, given[own][row])
                expected, prior = (q.loc, q.scale), torch.ones(4).double()
            else:
                scale = r if here and i != place else torch.ones(4).double()
                expected, prior = (torch.zeros(4).double(), scale), scale
            assert_close(post.distribution.loc[i, row], expected[0])
            assert_close(post.distribution.scale[i, row], expected[1])
            assert_close(post.prior.scale[i, row], prior)
    q = Normal(post.distribution.loc[place], post.distribution.scale[place])
    kl = post.kl()
    assert_close(kl[place], kl_divergence(q, Normal(torch.zeros(4).double(), 1.0)).sum(-1))
    others = [i for i in range(3) if i != place]
    assert not kl[others].any()
    assert not torch.autograd.grad(kl[others].sum(), module.auxiliary)[0].any()
    assert_close(post.weights, infer(make(MoEPosterior), given).weights)
    first, second = (post.sampled(Noise.of(5, seed)).z[others] for seed in (0, 1))
    assert not (first == second).any()


def test_cross_private_refuses_what_is_no_input():
    with pytest.raises(ConfigError, match="'images' is no input"):
        CrossPrivatePosterior(WIDTHS, own="images")


def test_cross_private_ignores_what_other_inputs_and_missing_ones_hold():
    module, results = make(CrossPrivatePosterior, own="keys"), []
    for filler in (0.0, float("nan")):
        given = {n: x.clone() for n, x in vectors().items()}
        given["keys"][~PRESENT[:, 1]] = filler
        given["image"][:] = filler
        drawn = infer(module, given).sampled(Noise.of(5))
        value = (drawn.weights * (drawn.kl() + drawn.z.square().sum(-1))).sum()
        results.append([drawn.z, *torch.autograd.grad(value, list(module.parameters()))])
    assert all(torch.equal(a, b) and b.isfinite().all() for a, b in zip(*results, strict=True))


def test_single_shares_are_those_of_what_is_there():
    found = single_shares(PRESENT, torch.zeros(1).double())
    expected = [[1 / 3, 1 / 3, 1 / 3], [0, 0.5, 0.5], [1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0, 0.5]]
    assert_close(found.T, torch.tensor(expected).double())
