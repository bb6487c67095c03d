import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fusion_engine import ConfigError, DataError, Features, Noise, Signal, Widths
from fusion_engine_tabular.number import Number
from fusion_engine_tabular.number_networks import NumbersDecoder, NumbersEncoder


def test_fit_learns_mean_and_deviation_of_each_channel_and_keeps_a_constant_one():
    learned = Number().fit(iter([[1.0, 0.1, -5], (3.0, 0.1, 5), np.array([8.0, 0.1, 0.0])]))
    columns = np.array([[1.0, 3.0, 8.0], [-5.0, 5.0, 0.0]])
    assert_close(learned["centre"], [columns[0].mean(), 0.1, 0.0])
    assert_close(learned["deviation"], [columns[0].std(), 1.0, columns[1].std()])


def test_what_the_config_sets_stays():
    learned = Number(centre=[100.0]).fit([1, 3])
    assert learned == {"centre": [100.0], "deviation": [1.0]}
    with pytest.raises(DataError, match=r"(?s)another length.*expected: 1 length.*\[2\]"):
        Number(centre=[100.0]).fit([[1, 2]])


@pytest.mark.parametrize("raw", [20.5, 41, np.float32(20.5), torch.tensor(7.25), [3.0]])
def test_a_single_number_comes_back_as_a_float_in_its_own_unit(raw):
    modality = Number(centre=[1e6], deviation=[250.0])
    signal = modality.prepare(raw)
    assert_close(signal.data, torch.tensor([(float(np.asarray(raw).item()) - 1e6) / 250.0]))
    (found,) = modality.restore(modality.collate([signal]))
    assert isinstance(found, float)
    assert found == pytest.approx(float(np.asarray(raw).item()), abs=0.1)  # 4000 deviations away, in single precision
    assert Number().restore(Signal(torch.tensor([[2.5]]))) == [2.5]


def test_several_numbers_come_back_as_a_list():
    modality = Number(**Number().fit([[1, 10], [3, 30]]))
    assert_close(modality.prepare([3, 10]).data, torch.tensor([1.0, -1.0]))
    assert modality.restore(Signal(torch.tensor([[1.0, -1.0]]))) == [[3.0, 10.0]]
    assert [m.content for m in modality.render(Signal(torch.tensor([[1.0, 0.0]])))] == [b"3, 20"]


def test_what_is_no_number_is_refused_in_words():
    two = Number(centre=[0.0, 0.0])
    for raw, words in [
        ("3", "a number or a list"),
        ([1.0], "expected: 2"),
        ([[1.0, 2.0]], "at most one axis"),
        ([1.0, float("nan")], "not finite"),
        ([], "at most one axis"),
        ([1.0, None], "a number or a list"),
    ]:
        with pytest.raises(DataError, match=words):
            two.prepare(raw)
    with pytest.raises(DataError, match=r"another length"):
        Number().fit([1.0, [1.0, 2.0]])
    with pytest.raises(DataError, match="no numbers"):
        Number().fit([])
    with pytest.raises(ConfigError, match="different lengths"):
        Number(centre=[0.0], deviation=[1.0, 1.0])


def test_the_encoder_is_two_matrices():
    torch.manual_seed(0)
    encoder = NumbersEncoder(Number(centre=[0.0, 0.0]), width=3, hidden=5)
    x = torch.randn(4, 2)
    inner = x @ encoder.body[0].weight.T + encoder.body[0].bias
    inner = torch.where(inner > 0, inner, 0.2 * inner)
    assert_close(encoder(Signal(x)).pooled, inner @ encoder.body[2].weight.T + encoder.body[2].bias)


def test_log_prob_is_that_of_a_normal_on_every_sample_axis():
    torch.manual_seed(0)
    decoder = NumbersDecoder(2, Number(centre=[0.0] * 3), {"c": Widths(1, 4)}, width=5, scale=0.5).double()
    z, condition, x = torch.randn(2, 5, 4, 2).double(), torch.randn(4, 4).double(), torch.randn(4, 3).double()
    likelihood = decoder(z, {"c": Features.of_pooled(condition)})
    got = likelihood.log_prob(Signal(x))
    for i in range(2):
        for j in range(5):
            mean = decoder.body(torch.cat([z[i, j], condition], 1))
            terms = -((x - mean) ** 2) / (2 * 0.5**2) - np.log(0.5 * np.sqrt(2 * np.pi))
            assert_close(got[i, j], terms.sum(-1))
    deviation = (likelihood.sample(Noise.of(4)).data - likelihood.mean.data).std().detach().item()
    assert 0.4 < deviation < 0.6
