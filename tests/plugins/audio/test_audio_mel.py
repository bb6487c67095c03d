import io
import json

import numpy as np
import PIL.Image
import pytest
import scipy.optimize
import soundfile
import torch
import torchaudio.functional

from fusion_engine import Signal
from fusion_engine_audio.mel import Mel
from fusion_engine_audio.spectra import unmelt


def tone(frequency: float, n: int = 4000, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(n) / 8000)).astype(np.float32)


def voice(n: int = 4000, pitch: float = 130.0) -> np.ndarray:
    """Harmonics under two formants that move, louder and softer."""
    t = np.arange(n) / 8000
    sound = np.zeros(n)
    for k in range(1, 25):
        f = k * pitch
        level = np.exp(-(((f - 500 - 800 * t) / 200) ** 2)) + 0.5 * np.exp(-(((f - 2200 + 900 * t) / 300) ** 2))
        sound += level * np.sin(2 * np.pi * f * t + k)
    sound *= np.sin(np.pi * np.arange(n) / n) ** 2
    return (sound / np.abs(sound).max()).astype(np.float32)


def fitted(samples: list, **config: object) -> Mel:
    return Mel(**{**config, **Mel(**config).fit(samples)})


def by_hand(sound: np.ndarray, window: int = 256, hop: int = 112, bands: int = 40, floor: float = -60.0) -> np.ndarray:
    """Compute log(mel + eps) frame by frame."""
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(sound.astype(np.float64), window // 2)
    frames = [padded[i * hop : i * hop + window] * hann for i in range(1 + len(sound) // hop)]
    magnitude = np.abs(np.fft.rfft(frames)) * 2 / hann.sum()
    filters = torchaudio.functional.melscale_fbanks(window // 2 + 1, 0.0, 4000.0, bands, 8000, mel_scale="slaney")
    return np.log(magnitude @ filters.double().numpy() + 10 ** (floor / 20))


@pytest.mark.parametrize(
    "config", [{}, {"window": 200, "hop": 100, "bands": 20}, {"window": 128, "hop": 50, "bands": 13, "floor": -80.0}]
)
def test_data_is_the_scaled_log_mel_of_the_sound_at_peak_one(config):
    sound = 0.3 * voice()
    modality = Mel(**config, centre=-2.0, deviation=1.5)
    want = (by_hand(sound / np.abs(sound).max(), **config) + 2.0) / 1.5
    found = modality.prepare(sound).data
    assert found.dtype == torch.float32
    assert found.shape == (modality.frames, modality.bands)
    np.testing.assert_allclose(found.numpy(), want, atol=1e-3)


def test_loudness_is_kept_where_nothing_is_normalised():
    sound = 0.3 * voice()
    modality = Mel(normalise=False, centre=0.0, deviation=1.0)
    np.testing.assert_allclose(modality.prepare(sound).data.numpy(), by_hand(sound), atol=1e-3)
    assert torch.equal(Mel().prepare(sound).data, Mel().prepare(sound).data)
    torch.testing.assert_close(Mel().prepare(sound).data, Mel().prepare(0.1 * sound).data, atol=1e-3, rtol=1e-3)


def test_fit_learns_what_numpy_computes_and_fits_json():
    clips = [voice(3000), voice(4400, 200.0), tone(900, 2000)]
    learned = Mel().fit(iter(clips))
    assert json.loads(json.dumps(learned)) == learned
    padded = [np.pad(c / np.abs(c).max(), (0, 4400 - len(c))) for c in clips]
    stack = np.stack([by_hand(c) for c in padded])
    assert (learned["sample_rate"], learned["seconds"]) == (8000, 0.55)
    np.testing.assert_allclose([learned["centre"], learned["deviation"]], [stack.mean(), stack.std()], rtol=1e-4)
    modality = Mel(**learned)
    assert (modality.frames, modality.bands, modality.size) == (40, 40, 1600)
    assert modality.fit(clips) == learned
    data = torch.stack([modality.prepare(c).data for c in clips])
    assert abs(float(data.mean())) < 1e-4
    assert float(data.std()) == pytest.approx(1.0, abs=1e-3)


def test_fit_keeps_what_is_set():
    learned = Mel(sample_rate=4000, seconds=2.0, centre=0.5).fit([(tone(440), 8000)])
    assert (learned["sample_rate"], learned["seconds"], learned["centre"]) == (4000, 2.0, 0.5)
    assert Mel(**learned).prepare((tone(440), 8000)).data.shape == (1 + 8000 // 56, 40)


@pytest.mark.parametrize("frequency", [440.0, 1000.0, 2500.0])
def test_a_tone_keeps_its_frequency_through_prepare_and_restore(frequency):
    modality = fitted([tone(frequency)])
    (sound,) = modality.restore(modality.collate([modality.prepare(tone(frequency))]))
    assert sound.dtype == np.float32
    assert sound.shape == (4000,)
    assert np.abs(sound).max() == pytest.approx(1.0)
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(4000)))
    assert spectrum.argmax() * 8000 / 4000 == pytest.approx(frequency, abs=8000 / 256)


def test_what_is_restored_has_nearly_the_same_spectrogram():
    clips = [voice(4000, pitch) for pitch in (110.0, 160.0, 230.0)]
    modality = fitted(clips)
    signal = modality.collate([modality.prepare(c) for c in clips])
    again = modality.collate([modality.prepare(c) for c in modality.restore(signal)])
    assert float((again.data - signal.data).square().mean().sqrt()) < 0.2
    shuffled = signal.data[:, torch.randperm(modality.frames, generator=torch.Generator().manual_seed(0))]
    assert float((shuffled - signal.data).square().mean().sqrt()) > 0.4


def test_restore_treats_rows_alone_and_leaves_the_random_state():
    modality = Mel(seconds=0.3)
    signal = modality.example(3)
    state = torch.get_rng_state()
    whole = modality.restore(signal)
    assert torch.equal(state, torch.get_rng_state())
    for i, sound in enumerate(whole):
        (alone,) = modality.restore(signal.take(torch.tensor([i])))
        np.testing.assert_allclose(alone, sound, atol=2e-3)
        np.testing.assert_array_equal(modality.restore(signal)[i], sound)


def test_magnitudes_are_nearly_those_of_least_squares():
    spectra = Mel().spectra
    filters = spectra.filters
    mel = (torch.from_numpy(by_hand(voice())).float().exp() - spectra.eps).clamp(min=0)[10:20]
    found = unmelt(mel, filters)
    assert float(found.min()) >= 0
    for row, x in zip(mel.double().numpy(), found.double().numpy(), strict=True):
        _, best = scipy.optimize.nnls(filters.double().numpy().T, row)
        error = np.linalg.norm(x @ filters.double().numpy() - row)
        assert error - best < 0.02 * np.linalg.norm(row)


def test_phases_are_found_as_torchaudio_finds_them():
    spectra = Mel().spectra
    magnitude = spectra._stft(torch.from_numpy(voice()))[None].abs()
    want = torchaudio.functional.griffinlim(
        magnitude * spectra._hann.sum() / 2, spectra._hann, 256, 112, 256, 1.0, 32, 0.99, 4000, False
    )
    found = spectra.griffin_lim(magnitude, 4000)
    errors = [float((spectra._stft(x).abs() - magnitude).norm() / magnitude.norm()) for x in (found, want)]
    assert errors[0] < 1.1 * errors[1] < 0.2


def test_silence_is_a_constant_and_stays_silence():
    modality = fitted([np.zeros(4000, np.float32), voice()])
    data = modality.prepare(np.zeros(100, np.float32)).data
    want = (np.log(1e-3) - modality.centre) / modality.deviation
    np.testing.assert_allclose(data.numpy(), np.full(tuple(data.shape), want), rtol=1e-4)
    assert np.abs(modality.restore(Signal(data[None]))[0]).max() < 1e-3
    silent = fitted([np.zeros(4000, np.float32)])
    assert silent.deviation == 1.0
    assert all(m.content for m in silent.render(silent.collate([silent.prepare(np.zeros(4000, np.float32))])))


@pytest.mark.parametrize("level", [-1e6, -100.0, 100.0, 1e6])
def test_what_no_sound_has_is_heard_without_overflow(level):
    modality = Mel(seconds=0.1)
    signal = modality.example(2).map(lambda x: x + level)
    assert all(np.abs(sound).max() <= 1.001 for sound in modality.restore(signal))
    assert len(modality.render(signal)) == 2


@pytest.mark.parametrize("n", [1, 7, 111, 112, 300])
def test_very_short_sounds_work(n):
    modality = fitted([tone(440, n, 0.5) + 0.1])
    signal = modality.collate([modality.prepare(tone(440, n))])
    assert signal.data.shape == (1, 1 + n // 112, 40)
    assert modality.restore(signal)[0].shape == (n,)
    assert np.isfinite(modality.restore(signal)[0]).all()
    assert len(modality.render(signal)) == 1


@pytest.mark.parametrize(("window", "hop", "rest"), [(256, 112, 111), (256, 128, 127), (4096, 2048, 2047)])
def test_what_stands_behind_the_last_frame_is_no_louder_than_the_rest(window, hop, rest):
    """The samples behind the last frame's centre lie under the end of its window, where it is nearly zero."""
    mel = Mel(sample_rate=8000, seconds=(20 * hop + rest) / 8000, window=window, hop=hop)
    noise = torch.randn(4, mel.bands, mel.frames, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.avg_pool1d(noise, 5, 1, 2).mT
    for sound in mel.restore(Signal(smooth)):
        assert len(sound) == 20 * hop + rest
        loudness = np.sqrt(np.square(sound).mean())
        assert np.sqrt(np.square(sound[-rest:]).mean()) < 2 * loudness
        assert loudness > 0.05  # of a peak of 1


def test_render_is_a_wav_file_of_what_restore_gives():
    modality = fitted([voice()])
    signal = modality.collate([modality.prepare(voice())])
    (media,) = modality.render(signal)
    assert media.mime == "audio/wav"
    sound, rate = soundfile.read(io.BytesIO(media.content))
    assert rate == 8000
    assert soundfile.info(io.BytesIO(media.content)).subtype == "PCM_16"
    np.testing.assert_allclose(sound, modality.restore(signal)[0], atol=1e-4)


def test_picture_has_time_to_the_right_and_low_frequencies_at_the_bottom():
    low_then_high = np.concatenate([tone(300, 2000), tone(3000, 2000)])
    modality = fitted([low_then_high])
    (media,) = modality.render(modality.collate([modality.prepare(low_then_high)]))
    picture = PIL.Image.open(io.BytesIO(media.picture))
    brightness = np.asarray(picture.convert("L"), float)
    h, w = brightness.shape
    assert min(h, w) >= 96
    assert w / h == pytest.approx(modality.frames / modality.bands)
    half = brightness[: h // 2].sum(0), brightness[h // 2 :].sum(0)
    assert (half[1] > half[0])[: w // 2 - 10].all()
    assert (half[0] > half[1])[w // 2 + 10 :].all()
    assert np.asarray(picture).shape == (h, w, 3)
