import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, Laplace, MultivariateNormal, Normal, kl_divergence
from torch.testing import assert_close

from fusion_engine import (
    Batch,
    DistributionLikelihood,
    Features,
    FusionError,
    Media,
    Noise,
    Posterior,
    Samples,
    Signal,
    Term,
    Widths,
    fill,
    joint_weights,
)
from fusion_engine.values import map_distribution, scatter_rows

NAN = float("nan")
ROWS = torch.tensor([True, False, True, False, True])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# -- signals and features ------------------------------------------------------------------------------------------


def test_fill_overwrites_padding_of_any_rank_and_nothing_else():
    mask = torch.tensor([[1, 0], [1, 1]]).bool()
    data = torch.tensor([[[1.0, 2.0], [NAN, NAN]], [[3.0, 4.0], [5.0, 6.0]]])
    assert fill(data, mask, 9.0).tolist() == [[[1, 2], [9, 9]], [[3, 4], [5, 6]]]
    assert fill(data[..., 0], mask).tolist() == [[1, 0], [3, 5]]
    assert fill(data, None) is data
    assert Signal(data, mask).filled(7.0)[0, 1].tolist() == [7, 7]


def signal():
    return Signal(torch.randn(3, 2, 4), torch.tensor([[1, 0], [1, 1], [0, 0]]).bool(), torch.rand(3, 2, 1))


def test_scatter_puts_rows_in_place_and_take_brings_them_back():
    original = signal()
    wide = original.scatter(ROWS)
    assert len(wide) == 5
    for place, row in zip((0, 2, 4), range(3), strict=True):
        assert torch.equal(wide.data[place], original.data[row])
        assert torch.equal(wide.mask[place], original.mask[row])
    assert not wide.data[~ROWS].any()
    assert not wide.mask[~ROWS].any()
    for rows in (ROWS, torch.tensor([0, 2, 4])):
        back = wide.take(rows)
        assert all(torch.equal(a, b) for a, b in zip(_tensors(back), _tensors(original), strict=True))
    assert wide.take(torch.tensor([4, 0])).data.equal(original.data[[2, 0]])


def _tensors(x):
    return [x.data, x.mask, x.position] if isinstance(x, Signal) else [x.tokens, x.pooled, x.mask, x.position]


def test_a_signal_without_mask_or_position_keeps_it_so():
    found = Signal(torch.arange(3)).scatter(ROWS)
    assert found.data.tolist() == [0, 0, 1, 0, 2]
    assert found.mask is None
    assert found.position is None


def test_scatter_carries_gradients_back_to_its_rows():
    x = torch.randn(3, 2, requires_grad=True)
    weight = torch.randn(5, 2)
    (scatter_rows(x, ROWS) * weight).sum().backward()
    assert torch.equal(x.grad, weight[ROWS])
    assert scatter_rows(torch.empty(0, 2), torch.zeros(4).bool()).tolist() == [[0, 0]] * 4


def test_features_of_pooled_are_their_only_token():
    pooled = torch.randn(3, 4)
    features = Features.of_pooled(pooled)
    assert torch.equal(features.tokens[:, 0], pooled)
    assert features.mask.tolist() == [[True]] * 3
    assert features.widths == Widths(4, 4)


def test_features_of_tokens_pool_the_valid_ones():
    mask = torch.tensor([[1, 0, 1], [1, 1, 1], [0, 0, 0]]).bool()
    tokens = torch.randn(3, 3, 2).masked_fill(~mask[..., None], NAN)
    features = Features.of_tokens(tokens, mask)
    expected = torch.stack([(tokens[0, 0] + tokens[0, 2]) / 2, tokens[1].mean(0), torch.zeros(2)])
    assert_close(features.pooled, expected)
    assert not features.tokens[~mask].any()
    assert_close(Features.of_tokens(tokens[1:2]).pooled, expected[1:2])


def test_features_scatter_take_and_absent():
    features = Features(torch.randn(3, 2, 4), torch.randn(3, 5), torch.ones(3, 2).bool(), torch.rand(3, 2, 1))
    wide = features.scatter(ROWS)
    assert not wide.mask[~ROWS].any()
    assert not wide.pooled[~ROWS].any()
    assert all(torch.equal(a, b) for a, b in zip(_tensors(wide.take(ROWS)), _tensors(features), strict=True))
    absent = Features.absent(3, features.widths, like=features.pooled.double())
    assert absent.widths == Widths(4, 5)
    assert absent.pooled.dtype == torch.float64
    assert not absent.mask.any()


# -- noise ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", ["normal", "uniform"])
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_splitting_rows_over_ranks_draws_the_same_numbers(draw, lead):
    whole = getattr(Noise.of(7, seed=11), draw)(4, 2, lead=lead)
    assert whole.shape == (*lead, 7, 4, 2)
    for rows in (torch.arange(0, 7, 2), torch.arange(1, 7, 2), torch.tensor([6, 0])):
        part = getattr(Noise(11, rows, 7), draw)(4, 2, lead=lead)
        assert torch.equal(part, whole.index_select(len(lead), rows))


def test_noise_depends_on_its_names_and_on_nothing_else():
    noise = Noise.of(6, seed=1)
    first = noise.at("posterior", "z").normal(3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(noise.at("posterior", "z").normal(3), first)
    assert torch.equal(torch.get_rng_state(), state)
    others = [
        noise.at("posterior", "y"),
        noise.at("posterior"),
        noise.at("posterior").at("z"),
        Noise.of(6, 2).at("posterior", "z"),
    ]
    assert not any(torch.equal(other.normal(3), first) for other in others)
    assert noise.at("posterior", "z").key == Noise.of(2, seed=1).at("posterior", "z").key
    assert 0 <= noise.at(1).key < 2**63


def test_noise_has_its_moments_and_the_dtype_asked_for():
    noise = Noise.of(20_000)
    normal, uniform = noise.normal(2), noise.uniform(2)
    assert_close(normal.T.cov(), torch.eye(2), atol=0.03, rtol=0)
    assert_close(uniform.mean(0), torch.full((2,), 0.5), atol=0.01, rtol=0)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert noise.normal(like=torch.empty(0).double()).dtype == torch.float64


# -- posteriors ----------------------------------------------------------------------------------------------------


def normal(*shape):
    return Normal(torch.randn(shape), torch.rand(shape) + 0.1)


def standard(*shape):
    return Normal(torch.zeros(shape), torch.ones(shape))


def test_of_starts_at_the_mean_with_equal_shares():
    post = Posterior.of(normal(3, 2, 5, 4), standard(5, 4))
    assert torch.equal(post.z, post.distribution.loc)
    assert_close(post.weights, torch.full((3, 2, 5), 1 / 6))
    assert torch.equal(Posterior.of(normal(5, 4), standard(5, 4)).weights, torch.ones(5))


def test_sampled_is_reparametrised():
    q = Normal(torch.randn(2, 5, 4, requires_grad=True), torch.full((2, 5, 4), 0.5, requires_grad=True))
    noise = Noise.of(5, seed=3)
    z = Posterior.of(q, standard(5, 4)).sampled(noise).z
    eps = noise.normal(4, lead=[2])
    assert_close(z, q.loc + 0.5 * eps)
    d_loc, d_scale = torch.autograd.grad(z.sum(), [q.loc, q.scale])
    assert_close(d_loc, torch.ones_like(d_loc))
    assert_close(d_scale, eps)


def test_sampled_by_the_inverse_cdf_follows_the_distribution():
    q = Laplace(torch.full((20_000, 1), 2.0), torch.full((20_000, 1), 0.7))
    z = Posterior.of(q, q).sampled(Noise.of(20_000)).z
    assert z.isfinite().all()
    for level in (-1.0, 0.0, 1.0):
        assert_close((z <= 2 + level).float().mean(), Laplace(0.0, 0.7).cdf(torch.tensor(level)), atol=0.01, rtol=0)


def test_kl_of_normals_is_the_closed_form():
    q = normal(3, 5, 4)
    post = Posterior.of(q, standard(5, 4))
    by_hand = 0.5 * (q.scale**2 + q.loc**2 - 1) - q.scale.log()
    assert_close(post.kl_elements(), by_hand)
    assert_close(post.kl(), by_hand.sum(-1))
    assert_close(post.kl(), kl_divergence(q, standard(5, 4)).sum(-1))


def test_kl_without_a_closed_form_is_the_estimate_at_z():
    q, p = normal(3, 5, 4), Laplace(torch.zeros(5, 4), torch.ones(5, 4))
    n = 4000
    wide = Normal(q.loc[0].repeat(n, 1, 1), q.scale[0].repeat(n, 1, 1))
    estimate = Posterior.of(wide, p).sampled(Noise.of(5)).kl().mean(0)
    points = torch.linspace(-12, 12, 4001)[:, None, None]
    first = Normal(q.loc[0], q.scale[0])
    integral = torch.trapezoid(
        first.log_prob(points).exp() * (first.log_prob(points) - p.log_prob(points)), points, dim=0
    )
    assert_close(estimate, integral.sum(-1), atol=0.15, rtol=0)


def test_kl_to_a_prior_without_a_factorised_density():
    factor = torch.tril(torch.randn(4, 4)) * 0.3 + torch.eye(4)
    prior = MultivariateNormal(torch.zeros(5, 4), scale_tril=factor)
    q = normal(3, 5, 4)
    post = Posterior.of(q, prior).sampled(Noise.of(5))
    assert post.kl_elements().shape == (3, 5, 1)
    assert_close(post.kl(), q.log_prob(post.z).sum(-1) - prior.log_prob(post.z))


def mixture():
    weights = torch.tensor([[0.0, 0.5, 1.0], [0.25, 0.0, 0.0], [0.75, 0.5, 0.0], [0.0, 0.0, 0.0]])
    return Posterior.of(normal(4, 3, 2), standard(3, 2), weights=weights, choice=torch.tensor([2, 0, 0]))


def test_one_keeps_the_choice():
    post = mixture()
    one = post.one()
    assert torch.equal(one.z, torch.stack([post.z[2, 0], post.z[0, 1], post.z[0, 2]]))
    assert torch.equal(one.distribution.scale[0], post.distribution.scale[2, 0])
    assert_close(one.kl(), torch.stack([post.kl()[2, 0], post.kl()[0, 1], post.kl()[0, 2]]))
    assert torch.equal(one.weights, torch.ones(3))
    assert one.one() is one
    assert torch.equal(Posterior.of(post.distribution, post.prior, weights=post.weights).one().z[0], post.z[2, 0])


def test_one_draws_by_weight():
    post = mixture()
    drawn = torch.stack([post.one(Noise.of(3, seed)).z for seed in range(2000)])
    shares = (drawn[:, None] == post.z).all(-1).float().mean(0)
    assert_close(shares, post.weights, atol=0.04, rtol=0)
    assert not shares[post.weights == 0].any()


def test_one_picks_the_value_of_z_that_was_drawn_before():
    post = mixture().sampled(Noise.of(3))
    assert torch.equal(post.one().z[0], post.z[2, 0])


class Top(Noise):
    """The largest uniform number there is: a row's last component must be one that it has."""

    def uniform(self, *shape, lead=(), like=None):
        return torch.full((*lead, len(self.index), *shape), 1 - 2**-24).to(like.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_never_draws_a_component_of_weight_zero(dtype):
    weights = torch.rand(64, 200)
    weights[40:] = 0
    weights = (weights / weights.sum(0)).to(dtype)
    post = Posterior.of(
        Normal(torch.arange(64.0)[:, None, None].expand(64, 200, 1), 1.0), standard(200, 1), weights=weights
    )
    assert post.one(Top(0, torch.arange(200), 200)).z.max() <= 39


def test_one_keeps_the_prior_of_the_component_that_it_keeps():
    prior = normal(4, 3, 2)
    post = mixture()
    one = Posterior.of(post.distribution, prior, weights=post.weights, choice=post.choice).one()
    assert torch.equal(one.prior.loc, torch.stack([prior.loc[2, 0], prior.loc[0, 1], prior.loc[0, 2]]))
    assert torch.equal(post.one().prior.loc, post.prior.loc)


def test_posteriors_of_equal_weights_keep_them_and_the_same_component():
    first = mixture()
    second = Posterior.of(normal(4, 3, 5), standard(3, 5), weights=first.weights, choice=first.choice)
    plain = Posterior.of(normal(3, 2), standard(3, 2))
    held = first.weights > 0
    share = (first.weights**2) / (first.weights**2).sum(0)
    assert_close(joint_weights([first, plain, second]), share)
    even = [Posterior.of(p.distribution, p.prior, weights=held / held.sum(0)) for p in (first, second)]
    assert_close(joint_weights(even), held / held.sum(0))
    assert torch.equal(joint_weights([plain, first]), first.weights)
    assert torch.equal(joint_weights([plain, plain]), torch.ones(3))
    for seed in range(20):
        kept = [(p.one(Noise.of(3, seed)).z == p.z).all(-1).long().argmax(0) for p in (first, second)]
        assert torch.equal(*kept)


def test_one_over_two_sample_axes():
    post = Posterior.of(normal(2, 3, 5, 4), standard(5, 4), weights=torch.eye(6)[3].reshape(2, 3, 1).expand(2, 3, 5))
    assert torch.equal(post.one(Noise.of(5)).z, post.z[1, 0])


def test_detached_and_with_z():
    post = Posterior.of(Normal(torch.zeros(2, 3, requires_grad=True), 1.0), standard(2, 3))
    assert post.z.requires_grad
    assert not post.detached().z.requires_grad
    assert torch.equal(post.with_z(torch.ones(2, 3)).z, torch.ones(2, 3))


@pytest.mark.parametrize("q", [normal(2, 3), Laplace(torch.randn(2, 3), torch.rand(2, 3) + 1)])
def test_map_distribution_rebuilds_it(q):
    found = map_distribution(q, lambda x: x[1])
    assert type(found) is type(q)
    x = torch.randn(3)
    assert_close(found.log_prob(x), q.log_prob(x.expand(2, 3))[1])


# -- likelihoods ---------------------------------------------------------------------------------------------------


def test_log_prob_sums_over_the_samples_own_axes():
    p = normal(3, 5, 2, 4)
    x = torch.randn(5, 2, 4)
    found = DistributionLikelihood(p, sample_axes=1).log_prob(Signal(x))
    expected = torch.stack(
        [torch.stack([Normal(p.loc[k, b], p.scale[k, b]).log_prob(x[b]).sum() for b in range(5)]) for k in range(3)]
    )
    assert_close(found, expected)
    folded = DistributionLikelihood(Independent(p, 2), sample_axes=1)
    assert_close(folded.log_prob(Signal(x)), expected)


def test_log_prob_of_labels_is_minus_the_cross_entropy():
    logits, labels = torch.randn(6, 5), torch.randint(5, (6,))
    likelihood = DistributionLikelihood(Categorical(logits=logits))
    assert_close(
        likelihood.log_prob(Signal(labels)), -torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    )
    assert torch.equal(likelihood.mean.data, logits.argmax(-1))


def test_categorical_samples_follow_their_probabilities():
    probs = torch.tensor([0.0, 0.2, 0.7, 0.1, 0.0])
    likelihood = DistributionLikelihood(Categorical(probs=probs.expand(2, 20_000, 5)), sample_axes=1)
    drawn = likelihood.sample(Noise.of(20_000)).data
    assert drawn.shape == (2, 20_000)
    assert_close(drawn.flatten().bincount(minlength=5) / 40_000, probs, atol=0.01, rtol=0)


def test_categorical_never_draws_what_has_no_probability():
    probs = torch.rand(300, 100)
    probs[:, 60:] = 0
    drawn = DistributionLikelihood(Categorical(probs=probs)).sample(Top(0, torch.arange(300), 300)).data
    assert drawn.max() == 59


def test_bernoulli_samples_follow_their_probabilities():
    probs = torch.tensor([0.0, 0.3, 1.0])
    likelihood = DistributionLikelihood(Bernoulli(probs=probs.expand(20_000, 3)))
    drawn = likelihood.sample(Noise.of(20_000)).data
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert_close(drawn.mean(0), probs, atol=0.01, rtol=0)
    assert torch.equal(likelihood.mean.data[0], probs)


def test_normal_and_laplace_samples_follow_their_distributions():
    for kind in (Normal, Laplace):
        p = kind(torch.full((20_000, 1), -1.0), torch.full((20_000, 1), 0.5))
        drawn = DistributionLikelihood(p).sample(Noise.of(20_000)).data
        for level in (-1.7, -1.0, -0.2):
            assert_close((drawn <= level).float().mean(), p.cdf(torch.tensor(level))[0, 0], atol=0.012, rtol=0)


def test_samples_have_no_density():
    signal = Signal(torch.randn(2, 3))
    likelihood = Samples(signal)
    assert likelihood.sample(Noise.of(2)) is likelihood.mean is signal
    with pytest.raises(FusionError, match="no density"):
        likelihood.log_prob(signal)


# -- batches, terms, media -----------------------------------------------------------------------------------------


def batch():
    return Batch.of({"x": Signal(torch.arange(4.0)), "y": signal_of(4)}, {"y": torch.tensor([1, 0, 1, 1]).bool()})


def signal_of(b):
    return Signal(torch.randn(b, 2), torch.ones(b, 2).bool())


def test_a_batch_is_present_unless_said_otherwise():
    found = batch()
    assert len(found) == found.total == 4
    assert found.present["x"].all()
    assert found.present["y"].tolist() == [True, False, True, True]


@pytest.mark.parametrize("rows", [torch.tensor([3, 1]), torch.tensor([False, True, False, True])])
def test_rows_of_a_batch_keep_their_noise(rows):
    whole, part = batch(), batch().take(rows)
    assert torch.equal(part.signals["x"].data, whole.signals["x"].data[rows])
    assert torch.equal(part.present["y"], whole.present["y"][rows])
    assert part.total == 4
    drawn = Noise(5, part.index, part.total).normal(2)
    assert torch.equal(drawn, Noise(5, whole.index, whole.total).normal(2)[rows])
    assert torch.equal(part.take(torch.tensor([0])).index, part.index[:1])


def test_moving_a_batch_moves_all_but_the_index():
    moved = batch().to("meta")
    assert {s.data.device.type for s in moved.signals.values()} == {"meta"}
    assert moved.signals["y"].mask.device.type == moved.present["x"].device.type == "meta"
    assert moved.index.device.type == "cpu"


def test_a_term_counts_the_rows_that_count():
    values = torch.tensor([1.0, NAN, 3.0], requires_grad=True)
    term = Term.of(values, torch.tensor([True, False, True]))
    assert (term.sum.item(), term.count.item()) == (4.0, 2)
    term.sum.backward()
    assert values.grad.tolist() == [1, 0, 1]
    none = Term.of(values.detach(), torch.zeros(3).bool())
    assert (none.sum.item(), none.count.item()) == (0.0, 0)


def test_terms_of_parts_add_up_to_the_mean_of_the_whole():
    values, rows = torch.randn(9), torch.rand(9) > 0.5
    parts = [Term.of(values[part], rows[part]) for part in (slice(0, 2), slice(2, 9))]
    mean = sum(t.sum for t in parts) / sum(t.count for t in parts)
    assert_close(mean, values[rows].mean())


def test_media_are_saved_under_their_own_suffix(tmp_path):
    assert Media("image/png", b"abc").save(tmp_path / "row").name == "row.png"
    assert (tmp_path / "row.png").read_bytes() == b"abc"
    assert Media("video/mp4", b"").suffix == ".bin"
