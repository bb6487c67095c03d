import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from fusion_engine import ConfigError, DataError, Registry
from fusion_engine_audio import register_components
from fusion_engine_audio.mel import Mel
from fusion_engine_audio.mel_scale import mel_filters
from fusion_engine_audio.sounds import Clips, learn_clips, read
from fusion_engine_audio.spectra import spectra_of
from fusion_engine_audio.waveform import Waveform


def tone(frequency: float, rate: int = 8000, seconds: float = 0.5, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def peak_frequency(sound: np.ndarray, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.fft.rfftfreq(len(sound), 1 / rate)[spectrum.argmax()])


def test_plugin_registers_its_components_under_its_name():
    registry = Registry("audio")
    register_components(registry)
    assert sorted(registry.entries) == [
        "decoder/audio.mel",
        "decoder/audio.wave_cnn",
        "encoder/audio.mel_cnn",
        "encoder/audio.wave_cnn",
        "modality/audio.mel",
        "modality/audio.waveform",
    ]
    assert {Mel.encoder, Mel.decoder, Waveform.encoder, Waveform.decoder} <= set(registry.entries)


def test_pcm_of_every_width_and_floats_are_one_sound():
    sound = tone(300)
    pcm = np.round(sound * 2**15).astype(np.int16)
    exact = pcm / 2**15
    for raw in (pcm, exact, torch.from_numpy(pcm), pcm.astype(np.int32) * 2**16, exact.tolist()):
        np.testing.assert_allclose(read(raw)[0], exact, atol=1e-6)
    small = np.round(sound * 127).astype(np.int8)
    for raw in (small, (small.astype(np.int16) + 128).astype(np.uint8)):
        np.testing.assert_allclose(read(raw)[0], small / 128, atol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("ogg", None)]
)
def test_files_are_read_with_their_rate(tmp_path, suffix, subtype):
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, tone(440, 16000), 16000, subtype=subtype)
    for raw in (path, str(path)):
        sound, rate = read(raw)
        assert rate == 16000
        assert peak_frequency(sound, rate) == pytest.approx(440, abs=2)
        np.testing.assert_allclose(sound, tone(440, 16000), atol=0.1 if suffix == "ogg" else 4e-5)


def test_channels_are_averaged_whichever_axis_they_are(tmp_path):
    left, right = tone(300), tone(500, amplitude=0.3)
    stereo = np.stack([left, right])
    for raw in (stereo, stereo.T, torch.from_numpy(stereo)):
        np.testing.assert_allclose(read(raw)[0], (left + right) / 2, atol=1e-6)
    soundfile.write(tmp_path / "stereo.wav", stereo.T, 8000, subtype="FLOAT")
    np.testing.assert_allclose(read(tmp_path / "stereo.wav")[0], (left + right) / 2, atol=1e-6)


@pytest.mark.parametrize("rate", [4000, 11025, 44100])
def test_resampling_keeps_the_tone_and_the_duration(rate):
    sound = Clips(8000, 0.5).read((tone(700, rate), rate)).numpy()
    assert len(sound) == 4000
    assert peak_frequency(sound, 8000) == pytest.approx(700, abs=2)
    np.testing.assert_allclose(sound[200:-200], tone(700)[200:-200], atol=0.01)


def test_what_is_short_is_followed_by_silence():
    sound = Clips(8000, 0.75).read(tone(440))
    assert torch.equal(sound[:4000], torch.from_numpy(tone(440)))
    assert sound[4000:].tolist() == [0.0] * 2000


def test_rate_and_duration_are_learned():
    a, b, c = tone(440, 8000, 0.3), tone(440, 16000, 0.4), tone(440, 22050, 0.2)
    assert learn_clips([a], None, None) == Clips(8000, 0.3)
    assert learn_clips([(b, 16000), (c, 22050), (b, 16000)], None, None) == Clips(16000, 0.4)
    assert learn_clips([(c, 22050), (b, 16000)], None, None).sample_rate == 16000
    assert learn_clips([(b, 16000), a], 8000, None) == Clips(8000, 0.4)
    assert learn_clips([a], 16000, None) == Clips(16000, 0.15)
    assert learn_clips([a], None, 2.0) == Clips(8000, 2.0)


@pytest.mark.parametrize(("rate", "n"), [(44100, 4411), (11025, 7), (22050, 12345), (48000, 1)])
def test_the_longest_sound_fits_the_duration_that_is_learned_from_it(rate, n):
    raw = (np.ones(n, np.float32), rate)
    for target in (8000, 16000, 44100):
        clips = learn_clips([raw], target, None)
        assert clips.read(raw).shape == (clips.samples,)
        assert Clips(target, n / rate).read(raw).shape == (Clips(target, n / rate).samples,)


def test_a_longer_sound_is_refused_with_both_durations():
    with pytest.raises(DataError, match=r"(?s)longer.*at most 0\.25 s.*0\.5 s.*`seconds`"):
        Clips(8000, 0.25).read(tone(440))
    for modality in (Mel(seconds=0.25), Waveform(seconds=0.25)):
        with pytest.raises(DataError, match=r"(?s)at most 0\.25 s.*0\.5 s"):
            modality.fit([tone(440)])


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([]), "empty"),
        (np.zeros((2, 3, 4)), r"shape \(2, 3, 4\)"),
        (np.zeros((40, 45)), "few channels"),
        (np.array(["a"]), "floating-point numbers or PCM"),
        (np.arange(5), r"int64[\s\S]*astype"),
        ([[0.1, 0.2], [0.3]], "unequal"),
        (0.5, "one axis"),
        ((8000, np.zeros(4)), "array first"),
        ((np.zeros(4), 0), "array first"),
        ((np.zeros(4), 8000, 1), "array first"),
        ("no_such_file.wav", r"no_such_file\.wav[\s\S]*no such file"),
        ("x\0y.wav", "cannot read the sound"),
        ("[" + "1, " * 500, r"\.\.\.'"),
    ],
)
def test_what_is_no_sound_is_refused_in_few_words(raw, words):
    for modality in (Mel(), Waveform()):
        with pytest.raises(DataError, match=words) as error:
            modality.prepare(raw)
        assert len(str(error.value)) < 600
        with pytest.raises(DataError, match=words):
            modality.fit([raw])


def test_broken_files_are_refused_in_words(tmp_path):
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "empty.flac").touch()
    for path in (tmp_path / "text.wav", tmp_path / "empty.flac", tmp_path):
        with pytest.raises(DataError, match="cannot read the sound"):
            Mel().prepare(path)


def test_nothing_to_learn_from_is_refused():
    for modality in (Mel(), Waveform()):
        with pytest.raises(DataError, match="no sounds"):
            modality.fit([])


@pytest.mark.parametrize(("bands", "low", "high"), [(40, 0.0, 4000.0), (32, 80.0, 3500.0), (7, 1200.0, 4000.0)])
def test_filters_are_those_of_torchaudio(bands, low, high):
    want = torchaudio.functional.melscale_fbanks(129, low, high, bands, 8000, mel_scale="slaney")
    torch.testing.assert_close(mel_filters(129, 8000, bands, low, high), want, atol=1e-4, rtol=1e-4)


def test_transforms_that_cannot_be_are_refused():
    for config, words in [
        ({"bands": 200}, "narrower"),
        ({"high": 5000.0}, "no range"),
        ({"low": 3000.0, "high": 200.0}, "no range"),
        ({"hop": 129}, "overlap"),
    ]:
        with pytest.raises(ConfigError, match=words):
            Mel(**config)


@pytest.mark.parametrize(
    ("rate", "window", "hop"), [(8000, 256, 112), (16000, 512, 224), (44100, 1024, 448), (100, 16, 7)]
)
def test_window_and_hop_follow_the_rate(rate, window, hop):
    found = spectra_of(rate, bands=2, window=None, hop=None, low=0.0, high=None, floor=-60.0)
    assert (found.window, found.hop, found.high) == (window, hop, rate / 2)
