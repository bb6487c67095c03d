import numpy as np
import pytest
import torch

from fusion_engine import DataError, Noise, Signal
from fusion_engine_sequence.conv_encoder import ConvEncoder
from fusion_engine_sequence.likelihood import SequenceLikelihood
from fusion_engine_sequence.modality import Series
from fusion_engine_sequence.strokes import Strokes


def pen(n: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(2, 3, (n, 2)), random.integers(0, 2, (n, 1))], 1).astype(np.float32)


DATA = [pen(n, n) for n in (5, 9, 1)]


def test_data_are_positions_centred_with_one_deviation_for_both_axes():
    modality = Strokes(**Strokes().fit(DATA))
    points = np.concatenate([np.cumsum(d[:, :2].astype(float), 0) for d in DATA])
    centre = points.mean(0)
    deviation = np.sqrt(((points - centre) ** 2).mean())
    expected = (np.cumsum(DATA[1][:, :2].astype(float), 0) - centre) / deviation
    signal = modality.prepare(DATA[1])
    np.testing.assert_allclose(signal.data[:, :2], expected, atol=1e-5)
    np.testing.assert_array_equal(signal.data[:, 2], DATA[1][:, 2])
    assert modality.length == 9


def test_restore_undoes_prepare():
    modality = Strokes(**Strokes().fit(DATA))
    back = modality.restore(modality.collate([modality.prepare(d) for d in DATA]))
    for given, found in zip(DATA, back, strict=True):
        np.testing.assert_allclose(found, given, atol=1e-4)


def test_what_the_config_sets_is_kept_and_wrong_strokes_are_refused():
    assert Strokes(length=40).fit(DATA)["length"] == 40
    with pytest.raises(DataError, match="channels"):
        Strokes().fit([np.zeros((4, 2))])
    with pytest.raises(DataError, match="binary"):
        Strokes().fit([np.full((4, 3), 0.5)])


def test_a_relaxed_pen_is_binary_going_forward_and_differentiable():
    values = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    likelihood = SequenceLikelihood(values, torch.zeros(2, 4), torch.tensor([False, False, True]), 1.0)
    like = Signal(torch.zeros(2, 4, 3), torch.tensor([[True] * 4, [True, True, False, False]]))
    relaxed = Strokes(length=4).relax(likelihood, Noise.of(2), like)
    assert torch.equal(relaxed.data[..., 2], ((values[..., 2] > 0) & like.mask).float())
    relaxed.data[..., 2].sum().backward()
    p = values[..., 2].sigmoid()
    expected = (p * (1 - p)).masked_fill(~like.mask, 0)
    torch.testing.assert_close(values.grad[..., 2], expected)


def test_the_convolutional_encoder_ignores_padding_and_equals_each_row_alone():
    torch.manual_seed(0)
    modality = Series(channels=3, length=12, binary=[2])
    encoder = ConvEncoder(modality, width=8, pooled=6)
    for p in encoder.parameters():
        torch.nn.init.normal_(p, std=0.3)
    lengths = torch.tensor([12, 5, 1, 0])
    mask = torch.arange(12) < lengths[:, None]
    data = torch.randn(4, 12, 3).masked_fill(~mask[..., None], torch.nan)
    features = encoder(Signal(data, mask))
    for row in range(3):
        n = int(lengths[row])
        alone = encoder(Signal(data[row : row + 1, :n], torch.ones(1, n, dtype=torch.bool)))
        torch.testing.assert_close(features.pooled[row], alone.pooled[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(features.tokens[row, :n], alone.tokens[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(features.pooled[3], encoder.pool.bias)


def test_the_convolutional_encoder_has_second_derivatives():
    torch.manual_seed(0)
    encoder = ConvEncoder(Series(channels=2, length=4, binary=[]), width=4, pooled=3, blocks=1).double()
    for p in encoder.parameters():
        torch.nn.init.normal_(p, std=0.5)
    x = torch.randn(1, 4, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda v: encoder(Signal(v)).pooled.pow(2), [x])
