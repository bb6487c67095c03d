import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from fusion_engine import ConfigError, DataError, Registry, Signal
from fusion_engine_sequence import register_components
from fusion_engine_sequence.drawing import plot_lines, stroke_lines
from fusion_engine_sequence.modality import Series


def strokes(n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.concatenate([random.normal(0, [3, 5], (n, 2)), random.integers(0, 2, (n, 1))], 1).astype(np.float32)


def fitted(samples: list, **config: object) -> Series:
    return Series(**{**config, **Series(**config).fit(samples)})


DATA = [strokes(n, n) for n in (4, 9, 1, 6)]


def test_plugin_registers_its_components_under_its_name():
    registry = Registry("sequence")
    register_components(registry)
    assert sorted(registry.entries) == [
        "decoder/sequence.conv",
        "decoder/sequence.recurrent_generator",
        "decoder/sequence.rnn",
        "encoder/sequence.conv",
        "encoder/sequence.rnn",
        "encoder/sequence.transformer",
        "loss/sequence.length",
        "modality/sequence.sequence",
        "modality/sequence.strokes",
    ]
    assert {Series.encoder, Series.decoder} <= set(registry.entries)


def test_fit_learns_what_numpy_computes_and_fits_json():
    learned = Series().fit(iter(DATA))
    assert json.loads(json.dumps(learned)) == learned
    assert (learned["channels"], learned["length"], learned["binary"]) == (3, 9, [2])
    want = np.concatenate(DATA).astype(np.float64).std(0)
    np.testing.assert_allclose(learned["deviation"], [want[0], want[1], 1.0])
    assert Series(**learned).fit(DATA) == learned


def test_fit_keeps_and_checks_what_is_set():
    learned = Series(length=20, deviation=[2.0, 2.0, 1.0]).fit(DATA)
    assert (learned["length"], learned["deviation"]) == (20, [2.0, 2.0, 1.0])
    for config, words in [
        ({"length": 8}, "(?s)at most 8.*9"),
        ({"channels": 2}, "(?s)2.*3"),
        ({"binary": [0]}, "channel 0"),
    ]:
        with pytest.raises(DataError, match=words):
            Series(**config).fit(DATA)
    with pytest.raises(ConfigError, match=r"(?s)deviation.*3.*2"):
        Series(deviation=[1.0, 1.0]).fit(DATA)


def test_a_flat_channel_is_not_divided_by_zero():
    assert Series().fit([np.full((3, 1), 0.3)])["deviation"] == [1.0]


def test_restore_inverts_prepare_and_increments_keep_their_zero():
    modality = fitted(DATA)
    signal = modality.collate([modality.prepare(x) for x in DATA])
    assert signal.mask.sum(1).tolist() == [4, 9, 1, 6]
    for got, want in zip(modality.restore(signal), DATA, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-6)
    assert modality.prepare([[0, 0, 0]]).data.tolist() == [[0, 0, 0]]


def test_a_centre_is_subtracted_only_if_set():
    samples = [np.array([10.0, 12.0, 14.0])]
    modality = fitted(samples, centre=[12.0])
    np.testing.assert_allclose(
        modality.prepare(samples[0]).data[:, 0], np.array([-2, 0, 2]) / np.std([10, 12, 14]), rtol=1e-6
    )
    np.testing.assert_allclose(modality.restore(modality.collate([modality.prepare(samples[0])]))[0][:, 0], samples[0])
    assert "centre" not in Series().fit(samples)


def test_restore_thresholds_binary_channels():
    modality = Series(channels=1, length=2, binary=[0])
    restored = modality.restore(Signal(torch.tensor([[[0.4], [0.6]]]), torch.ones(1, 2, dtype=torch.bool)))
    assert restored[0].tolist() == [[0.0], [1.0]]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (np.zeros((0, 3)), "empty"),
        ([], "empty"),
        ([[0.0, float("nan"), 1.0]], "(?s)NaN.*step 0"),
        (np.zeros((10, 3)), "(?s)at most 9.*10.*`length`"),
        (np.zeros((2, 4)), "channels"),
        ([[0.0, 0.0, 0.5]], "(?s)channel 2.*0.5"),
        ([[1.0], [1.0, 2.0]], "differ"),
        (np.zeros((1, 2, 3)), "two axes"),
        ([["a"]], "numbers"),
    ],
)
def test_what_does_not_fit_is_refused(raw, words):
    with pytest.raises(DataError, match=words):
        fitted(DATA).prepare(raw)


def test_contradictions_and_no_data_are_refused():
    with pytest.raises(DataError, match="no sequences"):
        Series().fit([])
    with pytest.raises(DataError, match="several numbers"):
        Series().fit([np.zeros((2, 2)), np.zeros((2, 3))])
    with pytest.raises(ConfigError, match="`binary`"):
        Series(channels=2, binary=[2])
    with pytest.raises(ConfigError, match="not scaled"):
        Series(binary=[0], deviation=[2.0])


def test_without_config_it_has_a_ragged_example_and_leaves_the_random_state():
    state = torch.get_rng_state()
    example = Series().example(8)
    lengths = example.mask.sum(1)
    assert lengths[0] == 16
    assert len(set(lengths.tolist())) > 1
    assert set(example.data[..., 2].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(state, torch.get_rng_state())
    assert Series(binary=[4]).channels == 5


def test_strokes_are_drawn_pen_up_to_pen_up():
    lines = stroke_lines(np.array([[0, 0, 0], [1, 0, 1], [0, 1, 0], [-1, 0, 1]], float))
    assert [line.tolist() for line in lines] == [[[8, 8], [88, 8]], [[88, 88], [8, 88]]]
    modality = Series(length=4)
    square = modality.collate([modality.prepare([[0, 0, 0], [1, 0, 1], [0, 1, 0], [-1, 0, 1]])])
    picture = np.asarray(Image.open(io.BytesIO(modality.render(square)[0].content)).convert("L"))
    assert picture[8, 48] < 64 and picture[88, 48] < 64  # noqa: PT018
    assert picture[48, 8] > 192 and picture[48, 88] > 192  # noqa: PT018 (the pen was lifted there)


def test_other_sequences_are_drawn_as_a_line_a_channel():
    lines = plot_lines(np.array([[0, 1], [1, 0], [0, 1]], float))
    assert [line.tolist() for line in lines] == [[[8, 88], [48, 8], [88, 88]], [[8, 8], [48, 88], [88, 8]]]
    modality = Series(channels=2, length=3)
    signal = modality.collate([modality.prepare([[0, 1], [1, 0], [0, 1]])])
    assert modality.render(signal)[0].mime == "image/png"
