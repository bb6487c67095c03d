import io
import json

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch

from fusion_engine import Signal
from fusion_engine_audio.waveform import Waveform


def noise(n: int, deviation: float = 0.2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, deviation, n).astype(np.float32)


def fitted(samples: list, **config: object) -> Waveform:
    return Waveform(**{**config, **Waveform(**config).fit(samples)})


def test_fit_learns_what_numpy_computes_and_fits_json():
    clips = [noise(1000), noise(700, 0.5, 1), noise(1600, 0.1, 2)]
    learned = Waveform().fit(iter(clips))
    assert json.loads(json.dumps(learned)) == learned
    stack = np.stack([np.pad(c, (0, 1600 - len(c))) for c in clips])
    assert (learned["sample_rate"], learned["seconds"]) == (8000, 0.2)
    assert learned["deviation"] == pytest.approx(np.sqrt((stack**2).mean()), rel=1e-5)
    modality = Waveform(**learned)
    assert modality.samples == modality.size == 1600
    assert modality.fit(clips) == learned
    data = torch.stack([modality.prepare(c).data for c in clips])
    assert float(data.square().mean()) == pytest.approx(1.0, rel=1e-4)
    assert Waveform(deviation=2.0).fit(clips)["deviation"] == 2.0


def test_restore_inverts_prepare():
    clips = [noise(1000), noise(1000, 3.0)]
    modality = fitted(clips)
    for found, clip in zip(
        modality.restore(modality.collate([modality.prepare(c) for c in clips])), clips, strict=True
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, clip, rtol=1e-6)


def test_silence_is_zero_and_not_divided_by_zero():
    modality = fitted([np.zeros(100, np.float32)])
    assert modality.deviation == 1.0
    assert modality.prepare(np.zeros(50, np.uint8) + np.uint8(128)).data.tolist() == [0.0] * 100
    assert modality.render(modality.example(1))


@pytest.mark.parametrize("peak", [0.5, 4.0])
def test_render_is_a_wav_file_never_beyond_full_scale(peak):
    sound = noise(1000)
    sound *= peak / np.abs(sound).max()
    modality = fitted([(sound, 11025)])
    (media,) = modality.render(Signal(modality.prepare(sound).data[None]))
    assert media.mime == "audio/wav"
    found, rate = soundfile.read(io.BytesIO(media.content))
    assert rate == 11025
    np.testing.assert_allclose(found, sound / max(1.0, peak), atol=1e-4)


def test_picture_shows_where_it_is_loud():
    sound = np.concatenate([np.zeros(2000, np.float32), noise(2000)])
    modality = fitted([sound])
    (media,) = modality.render(Signal(modality.prepare(sound).data[None]))
    dark = np.asarray(PIL.Image.open(io.BytesIO(media.picture))) < 128
    assert dark.shape == (96, 256)
    rows = dark[:, :128].sum(0)
    assert (rows.min(), rows.max()) == (2, 2)
    assert dark[:, 128:].sum(0).min() > 10
    assert dark[47:49].all()


def test_without_config_it_has_an_example_and_leaves_the_random_state():
    state = torch.get_rng_state()
    assert Waveform().example(3).data.shape == (3, 4000)
    assert torch.equal(state, torch.get_rng_state())
