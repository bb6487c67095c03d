import math
from itertools import combinations

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from fusion_engine import Features, Noise, Widths, thin
from fusion_engine_generative.posteriors.experts import BOUND, normal_of
from fusion_engine_generative.posteriors.gaussian import GaussianPosterior
from fusion_engine_generative.posteriors.generalised_poe import GeneralisedPoEPosterior
from fusion_engine_generative.posteriors.jmvae import JMVAEPosterior
from fusion_engine_generative.posteriors.moe import MoEPosterior
from fusion_engine_generative.posteriors.mopoe import MoPoEPosterior
from fusion_engine_generative.posteriors.mvae import MVAEPosterior
from fusion_engine_generative.posteriors.poe import PoEPosterior
from fusion_engine_generative.posteriors.random_subset import RandomSubsetPosterior

WIDTHS = {"image": Widths(5, 3), "keys": Widths(4, 2), "text": Widths(6, 6)}
PRESENT = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 0, 1]]).bool()
EVERY = [
    GaussianPosterior,
    PoEPosterior,
    MVAEPosterior,
    MoPoEPosterior,
    RandomSubsetPosterior,
    GeneralisedPoEPosterior,
    MoEPosterior,
    JMVAEPosterior,
]
PRODUCTS = EVERY[1:]


def widths(m):
    return {f"m{i}": Widths(2 + i, 2 + i) for i in range(m)}


def vectors(inputs, b, seed=0):
    torch.manual_seed(seed)
    return {n: torch.randn(b, w.pooled, dtype=torch.float64) for n, w in inputs.items()}


def make(kind, inputs=WIDTHS, latent=4):
    torch.manual_seed(1)
    return kind(inputs, latent=latent).double()


def infer(module, given, present=PRESENT):
    return module({n: Features.of_pooled(x) for n, x in given.items()}, present)


def expert(module, given, name, row):
    """One input's own Normal, by its Linear alone."""
    linear = module.experts.linears[list(module.inputs).index(name)]
    loc, logvar = linear(given[name][row]).chunk(2)
    return loc, (BOUND * torch.tanh(logvar / BOUND)).exp()


def product(pairs):
    """Multiply Gaussian densities one by one: the recursion of two, not the formula of many."""
    loc, var = pairs[0]
    for other_loc, other_var in pairs[1:]:
        loc, var = (loc * other_var + other_loc * var) / (var + other_var), var * other_var / (var + other_var)
    return loc, var


def assert_normal(found, at, loc, var):
    assert_close(found.loc[at], loc)
    assert_close(found.scale[at], var.sqrt())


PRIOR = (torch.zeros(4).double(), torch.ones(4).double())


def test_product_equals_the_normalised_product_of_densities_on_a_grid():
    module, given = make(PoEPosterior, latent=1), vectors(WIDTHS, 5)
    post = infer(module, given)
    grid = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
    for row in range(5):
        log = Normal(0.0, 1.0).log_prob(grid)
        for i, name in enumerate(WIDTHS):
            if PRESENT[row, i]:
                loc, var = expert(module, given, name, row)
                log = log + Normal(loc, var.sqrt()).log_prob(grid)
        density = log.exp() / torch.trapezoid(log.exp(), grid)
        found = Normal(post.distribution.loc[row], post.distribution.scale[row]).log_prob(grid).exp()
        assert_close(found, density)


def test_poe_equals_the_recursion():
    module, given = make(PoEPosterior), vectors(WIDTHS, 5)
    post = infer(module, given)
    for row in range(5):
        held = [expert(module, given, n, row) for i, n in enumerate(WIDTHS) if PRESENT[row, i]]
        assert_normal(post.distribution, row, *product([PRIOR, *held]))
    assert torch.equal(post.weights, torch.ones(5).double())
    assert torch.equal(post.z, post.distribution.loc)


def test_mopoe_equals_an_explicit_loop_over_subsets():
    module, given = make(MoPoEPosterior), vectors(WIDTHS, 5)
    post = infer(module, given)
    assert post.z.shape == (8, 5, 4)
    for row in range(5):
        have = [i for i in range(3) if PRESENT[row, i]]
        subsets = [s for size in range(1, len(have) + 1) for s in combinations(have, size)]
        weights = torch.zeros(8).double()
        for subset in subsets:
            number = sum(2**i for i in subset)
            weights[number] = 1 / len(subsets)
            pairs = [expert(module, given, list(WIDTHS)[i], row) for i in subset]
            assert_normal(post.distribution, (number, row), *product(pairs))
        weights[0] = float(not subsets)
        assert_close(post.weights[:, row], weights)
        assert post.choice[row] == sum(2**i for i in have)


def test_random_subset_is_the_joint_and_the_product_over_the_drawn_subset():
    module, given = make(RandomSubsetPosterior), vectors(WIDTHS, 5)
    post = infer(module, given)
    joint = infer(make(PoEPosterior), given).distribution
    assert torch.equal(post.one().z, joint.loc)
    assert torch.equal(post.weights, torch.tensor([[1.0], [0.0]]).double().expand(2, 5))
    noise = Noise.of(5, 3)
    drawn = post.sampled(noise)
    kept = thin(PRESENT, 0.5, noise.at("components"))
    assert not (kept == PRESENT).all()
    assert_close(drawn.distribution.loc[0], joint.loc)
    assert torch.equal(drawn.weights, torch.full([2, 5], 0.5).double())
    for row in range(5):
        held = [expert(module, given, n, row) for i, n in enumerate(WIDTHS) if kept[row, i]]
        assert_normal(drawn.distribution, (1, row), *product([PRIOR, *held]))


@pytest.mark.parametrize("share", [0.2, 0.0])
def test_random_subset_weighs_the_joint_as_its_config_says(share):
    given, noise = vectors(WIDTHS, 5), Noise.of(5, 3)
    torch.manual_seed(1)
    module = RandomSubsetPosterior(WIDTHS, latent=4, joint=share).double()
    drawn, usual = infer(module, given).sampled(noise), infer(make(RandomSubsetPosterior), given).sampled(noise)
    weights = torch.tensor([[share], [1 - share]]).double().expand(2, 5)
    assert_close(drawn.weights, weights if share else weights[1])
    assert_close(drawn.distribution.loc, usual.distribution.loc if share else usual.distribution.loc[1])
    assert_close(drawn.distribution.scale, usual.distribution.scale if share else usual.distribution.scale[1])


def test_mvae_is_the_joint_and_each_input_alone():
    module, given = make(MVAEPosterior), vectors(WIDTHS, 5)
    post = infer(module, given)
    expected = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 1]]).double()
    assert_close(post.weights.T, expected / expected.sum(1, keepdim=True))
    assert not post.choice.any()
    joint = infer(make(PoEPosterior), given)
    assert_close(post.distribution.loc[0], joint.distribution.loc)
    assert_close(post.distribution.scale[0], joint.distribution.scale)
    for row, i in PRESENT.nonzero().tolist():
        if PRESENT[row].sum() > 1:
            pair = expert(module, given, list(WIDTHS)[i], row)
            assert_normal(post.distribution, (1 + i, row), *product([PRIOR, pair]))


def test_mvae_of_one_input_has_one_component():
    module = make(MVAEPosterior, widths(1))
    post = infer(module, vectors(widths(1), 2), torch.tensor([[True], [False]]))
    assert torch.equal(post.weights, torch.ones(1, 2).double())
    assert post.z.shape == (1, 2, 4)


def test_gaussian_equals_a_matmul_written_by_hand():
    module, given = make(GaussianPosterior), vectors(WIDTHS, 5)
    post = infer(module, given)
    x = torch.cat([v * PRESENT[:, [i]] for i, v in enumerate(given.values())], -1)
    loc, logvar = (x @ module.linear.weight.T + module.linear.bias).chunk(2, -1)
    some = PRESENT.any(1)
    assert_close(post.distribution.loc[some], loc[some])
    assert_close(post.distribution.scale[some], (BOUND * torch.tanh(logvar / BOUND)).exp().sqrt()[some])


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_with_nothing_are_the_prior_exactly(kind, dtype):
    module = make(kind).to(dtype)
    post = infer(module, {n: x.to(dtype) for n, x in vectors(WIDTHS, 5).items()}).one()
    nothing = ~PRESENT.any(1)
    assert torch.equal(post.distribution.loc[nothing], torch.zeros(1, 4, dtype=dtype))
    assert torch.equal(post.distribution.scale[nothing], torch.ones(1, 4, dtype=dtype))
    assert torch.equal(post.kl()[nothing], torch.zeros(1, dtype=dtype))


@pytest.mark.parametrize("kind", EVERY)
def test_kl_equals_torch_and_weights_sum_to_one(kind):
    post = infer(make(kind), vectors(WIDTHS, 5))
    standard = Normal(torch.zeros_like(post.z), torch.ones_like(post.z))
    assert_close(post.kl(), kl_divergence(post.distribution, standard).sum(-1))
    if post.weights.ndim == 2:
        assert_close(post.weights.sum(0), torch.ones(5).double())


@pytest.mark.parametrize("kind", [MVAEPosterior, MoPoEPosterior])
def test_the_choice_is_all_that_a_row_has_and_one_never_draws_what_it_lacks(kind):
    module, given = make(kind), vectors(WIDTHS, 5)
    post = infer(module, given)
    best = post.one()
    assert_close(best.z, post.z[post.choice, torch.arange(5)])
    for seed in range(50):
        drawn = post.one(Noise.of(5, seed)).z
        matches = (drawn == post.z).all(-1) & (post.weights > 0)
        assert matches.any(0).all()


@pytest.mark.parametrize("kind", PRODUCTS)
def test_experts_are_those_of_the_inputs_and_the_prior_where_absent(kind):
    module, given = make(kind), vectors(WIDTHS, 5)
    post = infer(module, given)
    assert list(post.experts) == list(WIDTHS)
    for i, (name, found) in enumerate(post.experts.items()):
        for row in range(5):
            assert_normal(found, row, *(expert(module, given, name, row) if PRESENT[row, i] else PRIOR))


@pytest.mark.parametrize("kind", EVERY)
def test_garbage_in_absent_slots_changes_neither_values_nor_gradients(kind):
    module = make(kind)
    results = []
    for filler in (0.0, float("nan"), float("inf")):
        given = {
            n: x.masked_fill(~PRESENT[:, [i]], filler).requires_grad_()
            for i, (n, x) in enumerate(vectors(WIDTHS, 5).items())
        }
        post = infer(module, given)
        drawn = post.sampled(Noise.of(5)).z
        value = (post.weights * (post.kl() + drawn.square().sum(-1))).sum()
        value = value + sum(e.loc.sum() + e.scale.sum() for e in post.experts.values())
        results.append([post.z, drawn, *torch.autograd.grad(value, [*given.values(), *module.parameters()])])
    for result in results:
        assert all(x.isfinite().all() and torch.equal(x, y) for x, y in zip(result, results[0], strict=True))


@pytest.mark.parametrize("kind", EVERY)
def test_rows_are_independent_and_a_batch_of_one_works(kind):
    module, given = make(kind), vectors(WIDTHS, 5)
    whole = infer(module, given)
    for row in range(5):
        one = infer(module, {n: x[[row]] for n, x in given.items()}, PRESENT[[row]])
        assert_close(one.z, whole.z[..., [row], :])
        assert_close(one.distribution.scale, whole.distribution.scale[..., [row], :])
        assert_close(one.weights, whole.weights[..., [row]])


@pytest.mark.parametrize("kind", EVERY)
def test_every_parameter_learns_and_double_backward_works(kind):
    module, given = make(kind), vectors(WIDTHS, 5)
    infer(module, given).kl().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())

    def kl(*xs):
        return infer(module, dict(zip(WIDTHS, xs, strict=True))).kl()

    assert torch.autograd.gradgradcheck(kl, tuple(x.requires_grad_() for x in given.values()))


@pytest.mark.parametrize("kind", EVERY)
def test_state_dict_holds_parameters_alone_and_loads(kind):
    module, other = make(kind), kind(WIDTHS, latent=4).double()
    assert set(module.state_dict()) == {n for n, _ in module.named_parameters()}
    other.load_state_dict(module.state_dict())
    given = vectors(WIDTHS, 5)
    assert torch.equal(infer(other, given).z, infer(module, given).z)


class Count(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def operators(kind, m):
    module, given = make(kind, widths(m)), vectors(widths(m), 3)
    with Count() as count:
        infer(module, given, torch.ones(3, m).bool())
    return count.calls


@pytest.mark.parametrize("kind", PRODUCTS)
def test_operators_do_not_grow_with_the_number_of_subsets(kind):
    counts = {m: operators(kind, m) for m in (3, 4, 5, 8)}
    an_input = counts[4] - counts[3]
    assert 0 < an_input <= 12
    assert counts[5] == counts[3] + 2 * an_input
    assert counts[8] == counts[3] + 5 * an_input


@pytest.mark.parametrize("raw", [-1e6, -20.0, 0.0, 20.0, 1e6])
def test_scales_stay_in_range(raw):
    scale = normal_of(torch.tensor([[0.0, raw]])).scale.item()
    assert scale == pytest.approx(math.exp(5 * math.tanh(raw / 10)))
    assert 0.006 < scale < 149


@pytest.mark.parametrize("kind", [PoEPosterior, MVAEPosterior, MoPoEPosterior, RandomSubsetPosterior])
def test_under_autocast_products_stay_in_full_precision(kind):
    module, given = make(kind).float(), {n: x.float() for n, x in vectors(WIDTHS, 5).items()}
    with torch.autocast("cpu", torch.bfloat16):
        post = infer(module, given)
    assert post.z.dtype == post.distribution.scale.dtype == torch.float32
    joint = post.one().distribution
    held = [post.experts[n] for n in WIDTHS] + (
        [] if kind is MoPoEPosterior else [Normal(torch.zeros(5, 4), torch.ones(5, 4))]
    )
    assert_close(joint.scale[0], sum(e.scale[0] ** -2 for e in held) ** -0.5)
