import scipy.stats
import torch

from fusion_engine import Noise
from fusion_engine_generative.priors.uniform import UniformNoise


def test_each_number_is_uniform_with_zero_mean_and_unit_deviation():
    prior = UniformNoise(latent=3)
    drawn = prior(20_000).sampled(Noise.of(20_000, seed=1))
    bound = 3**0.5
    for column in drawn.z.T:
        assert scipy.stats.kstest(column.numpy(), "uniform", args=(-bound, 2 * bound)).pvalue > 0.01
    assert abs(torch.corrcoef(drawn.z.T) - torch.eye(3)).max() < 0.03
    torch.testing.assert_close(prior(2).z, torch.zeros(2, 3))
    expected = torch.full((20_000, 3), -torch.tensor(2 * bound).log().item())
    torch.testing.assert_close(drawn.prior.log_prob(drawn.z), expected)


def test_a_row_draws_the_same_whatever_the_batch():
    prior, noise = UniformNoise(latent=2), Noise.of(8, seed=2)
    part = Noise(noise.key, torch.tensor([5, 1]), 8)
    torch.testing.assert_close(prior(2).sampled(part).z, prior(8).sampled(noise).z[[5, 1]])
