import math

import numpy as np
import pytest
import torch
from torch import nn

from fusion_engine import Engine, Features, Noise, Signal, Widths
from fusion_engine_audio.blocks import block1d, block2d
from fusion_engine_audio.mel import Mel
from fusion_engine_audio.mel_decoder import MelDecoder
from fusion_engine_audio.mel_encoder import MelCNN
from fusion_engine_audio.wave_decoder import WaveDecoder
from fusion_engine_audio.wave_encoder import WaveCNN
from fusion_engine_audio.waveform import Waveform

MELS = [{}, {"seconds": 0.001, "bands": 1}, {"seconds": 0.33, "bands": 13}, {"seconds": 1.3, "bands": 31}]
WAVES = [{}, {"seconds": 1 / 8000}, {"seconds": 33 / 8000}, {"seconds": 4401 / 8000}]
CASES = [(Mel(**c), MelCNN, MelDecoder) for c in MELS] + [(Waveform(**c), WaveCNN, WaveDecoder) for c in WAVES]
IDS = [f"{type(m).__name__}{list(m.example(1).data.shape[1:])}" for m, _, _ in CASES]


def perturb(module: nn.Module) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.05 * torch.randn_like(p))


@pytest.mark.parametrize(("modality", "encoder", "decoder"), CASES, ids=IDS)
def test_any_size_is_encoded_row_by_row(modality, encoder, decoder):
    torch.manual_seed(0)
    network = encoder(modality, width=12, pooled=20, channels=4)
    perturb(network)
    signal = modality.example(3)
    features = network(signal)
    assert features.widths == network.widths == Widths(12, 20)
    assert features.position.shape == (*features.tokens.shape[:2], 1)
    one = network(signal.take(torch.tensor([1])))
    torch.testing.assert_close(one.pooled, features.pooled[1:2])
    torch.testing.assert_close(one.tokens, features.tokens[1:2])


@pytest.mark.parametrize(("modality", "encoder", "decoder"), CASES, ids=IDS)
def test_any_size_is_decoded_and_sample_axes_pass_through(modality, encoder, decoder):
    torch.manual_seed(0)
    network = decoder(5, modality, channels=4)
    perturb(network)
    z = torch.randn(2, 3, 2, 5)
    mean = network(z, {}).mean.data
    assert mean.shape == (2, 3, *modality.example(2).data.shape)
    by_hand = torch.stack([torch.stack([network(row, {}).mean.data for row in plane]) for plane in z])
    torch.testing.assert_close(mean, by_hand)


def last_and_nothing(modality: Mel | Waveform) -> tuple[Signal, Signal]:
    silence = modality.example(1).map(torch.zeros_like)
    changed = silence.data.clone()
    changed[0, -1] = 1.0
    return silence, Signal(changed)


@pytest.mark.parametrize(
    ("modality", "encoder", "cells"), [(Mel(seconds=0.545), MelCNN, 5), (Waveform(seconds=4096 / 8000), WaveCNN, 16)]
)
def test_position_says_when_a_token_listens(modality, encoder, cells):
    torch.manual_seed(0)
    network = encoder(modality, channels=4)
    silence, changed = last_and_nothing(modality)  # blocks are identities: the end lies in the last cell's field alone
    features, other = network(silence), network(changed)
    moved = (features.tokens != other.tokens).any(-1)[0]
    assert moved.tolist() == [False] * (cells - 1) + [True]
    assert features.position[0, moved].item() == pytest.approx(1 - 1 / cells)
    assert features.position[0, 0].item() == pytest.approx(-1 + 1 / cells)


def test_a_token_hears_every_band_at_its_time():
    torch.manual_seed(0)
    modality = Mel(seconds=0.545)
    network = MelCNN(modality, channels=4)
    x = modality.example(1).data.requires_grad_()
    (seen,) = torch.autograd.grad(network(Signal(x)).tokens[0, 2].sum(), x)
    heard = (seen[0] != 0).nonzero()
    assert sorted(set(heard[:, 1].tolist())) == list(range(40))
    assert 2 * 8 in heard[:, 0].tolist()
    assert set(heard[:, 0].tolist()) <= set(range(7, 26))


def test_nothing_normalises_and_blocks_start_as_identity():
    networks = [MelCNN(Mel()), WaveCNN(Waveform()), MelDecoder(3, Mel()), WaveDecoder(3, Waveform())]
    assert not [m for network in networks for m in network.modules() if "norm" in type(m).__name__.lower()]
    x = torch.randn(2, 6, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(block2d(6)(x), x)
    assert torch.equal(block1d(6)(x[..., 0]), x[..., 0])


@pytest.mark.parametrize(
    ("modality", "decoder"), [(Mel(seconds=0.1, bands=5), MelDecoder), (Waveform(seconds=0.02), WaveDecoder)]
)
def test_log_prob_is_that_of_a_normal_distribution(modality, decoder):
    torch.manual_seed(0)
    network = decoder(3, modality, channels=4, scale=0.5)
    x = modality.example(2)
    likelihood = network(torch.randn(3, 2, 3), {})
    mean = likelihood.mean.data
    per_value = -0.5 * ((x.data - mean) / 0.5) ** 2 - math.log(0.5) - 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(likelihood.log_prob(x), per_value.flatten(2).sum(-1))
    drawn = mean + 0.5 * Noise.of(2).normal(*x.data.shape[1:], lead=(3,))
    torch.testing.assert_close(likelihood.sample(Noise.of(2)).data, drawn)


@pytest.mark.parametrize(("modality", "decoder"), [(Mel(), MelDecoder), (Waveform(), WaveDecoder)])
def test_conditions_join_the_latent(modality, decoder):
    torch.manual_seed(0)
    network = decoder(3, modality, {"label": Widths(2, 4)}, channels=4)
    plain = decoder(7, modality, channels=4)
    plain.load_state_dict(network.state_dict())
    z, label = torch.randn(2, 3), torch.randn(2, 4)
    got = network(z, {"label": Features.of_pooled(label)}).mean.data
    torch.testing.assert_close(got, plain(torch.cat([z, label], 1), {}).mean.data)


def chirps(samples: int = 2400) -> list[np.ndarray]:
    t = np.arange(samples) / 8000
    return [np.sin(2 * np.pi * (200 + 150 * i + (-1) ** i * 600 * t) * t).astype(np.float32) for i in range(8)]


@pytest.mark.parametrize(
    ("kind", "samples", "encoder", "decoder"),
    [(Mel, 2400, MelCNN, MelDecoder), (Waveform, 400, WaveCNN, WaveDecoder)],
)
def test_encoder_and_decoder_learn_eight_sounds_by_heart(kind, samples, encoder, decoder):
    torch.manual_seed(0)
    modality = kind(**kind().fit(chirps(samples)))
    signal = modality.collate([modality.prepare(c) for c in chirps(samples)])
    body, head = encoder(modality, pooled=16), decoder(16, modality)
    optimizer = torch.optim.Adam([*body.parameters(), *head.parameters()], 3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        loss = (head(body(signal).pooled, {}).mean.data - signal.data).square().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert signal.data.square().mean().item() == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("modality", ["modality/audio.mel", "modality/audio.waveform"])
def test_a_model_learns_from_sounds_and_makes_some(modality):
    model = Engine().recipe("vae", {"sound": modality}, latent=4, epochs=1)
    model.fit([{"sound": (clip, 8000)} for clip in chirps()])
    assert model.modalities["sound"].sample_rate == 8000
    sounds = model.generate(3)["sound"]
    assert [sound.shape for sound in sounds] == [(2400,)] * 3
