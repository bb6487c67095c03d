import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fusion_engine import ConfigError, Encoder, Features, Signal, Widths
from fusion_engine_sequence.conv_decoder import ConvDecoder
from fusion_engine_sequence.modality import Series
from fusion_engine_sequence.rnn_decoder import RNNDecoder
from fusion_engine_sequence.rnn_encoder import RNNEncoder
from fusion_engine_sequence.transformer_encoder import TransformerEncoder, sinusoids

MODALITY = Series(channels=3, length=7, binary=(2,))
ENCODERS = {
    "gru": lambda: RNNEncoder(MODALITY, cell="gru", width=5),
    "lstm": lambda: RNNEncoder(MODALITY, cell="lstm", width=5, layers=2),
    "onward": lambda: RNNEncoder(MODALITY, width=5, bidirectional=False),
    "transformer": lambda: TransformerEncoder(MODALITY, width=8, heads=2),
}


@pytest.fixture(params=ENCODERS)
def encoder(request) -> Encoder:
    torch.manual_seed(0)
    return ENCODERS[request.param]()


def ragged() -> Signal:
    """Four rows; the last has no step at all."""
    signal = MODALITY.example(4)
    mask = torch.arange(7) < torch.tensor([[7], [3], [1], [0]])
    return Signal(signal.data, mask)


def spoilt(signal: Signal) -> Signal:
    return Signal(signal.data.masked_fill(~signal.mask[..., None], float("nan")), signal.mask)


def test_padding_changes_no_bit_of_output_or_gradient(encoder):
    outputs, grads = [], []
    for signal in (ragged(), spoilt(ragged())):
        encoder.zero_grad()
        features = encoder(signal)
        (features.pooled.square().sum() + features.tokens.square().sum()).backward()
        outputs.append(features)
        grads.append([p.grad.clone() for p in encoder.parameters()])
    assert torch.equal(outputs[0].tokens, outputs[1].tokens)
    assert torch.equal(outputs[0].pooled, outputs[1].pooled)
    assert outputs[0].pooled.isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    assert all(g.abs().sum() > 0 for g in grads[0])
    assert outputs[0].widths == encoder.widths


@pytest.mark.parametrize("training", [True, False])
def test_a_row_alone_and_unpadded_gives_the_same(encoder, training):
    encoder.train(training)
    signal = ragged()
    together = encoder(signal)
    for row, n in enumerate((7, 3, 1)):
        with torch.inference_mode():
            alone = encoder(Signal(signal.data[row : row + 1, :n], signal.mask[row : row + 1, :n]))
        torch.testing.assert_close(alone.tokens[0], together.tokens[row, :n], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], atol=1e-5, rtol=1e-5)
    assert (together.tokens[~signal.mask] == 0).all()


@pytest.mark.parametrize(("cell", "layers", "bidirectional"), [("gru", 1, True), ("lstm", 2, True), ("gru", 2, False)])
def test_rnn_agrees_with_packed_sequences_of_torch(cell, layers, bidirectional):
    torch.manual_seed(0)
    encoder = RNNEncoder(MODALITY, cell=cell, width=4, layers=layers, bidirectional=bidirectional)
    kind = {"gru": nn.GRU, "lstm": nn.LSTM}[cell]
    reference = kind(3, 4, layers, batch_first=True, bidirectional=bidirectional)
    for i, layer in enumerate(encoder.layers):
        for suffix, part in [("", layer.onward), *([("_reverse", layer.back)] if bidirectional else [])]:
            for name, p in part.named_parameters():
                getattr(reference, name.replace("l0", f"l{i}") + suffix).data.copy_(p.data)
    signal = ragged().take(torch.tensor([0, 1, 2]))
    packed, state = reference(pack_padded_sequence(signal.filled(), signal.mask.sum(1), batch_first=True))
    state = state[0] if cell == "lstm" else state
    features = encoder(signal)
    torch.testing.assert_close(features.tokens, pad_packed_sequence(packed, batch_first=True)[0])
    last = torch.cat([state[-2], state[-1]], 1) if bidirectional else state[-1]
    torch.testing.assert_close(features.pooled, last)


def test_positions_are_those_of_the_paper():
    want = [[f(t / 10000 ** (2 * i / 8)) for i in range(4) for f in (math.sin, math.cos)] for t in range(20)]
    torch.testing.assert_close(sinusoids(20, 8), torch.tensor(want))


def test_transformer_reads_the_first_token_alone_where_there_is_no_step():
    torch.manual_seed(0)
    encoder = TransformerEncoder(MODALITY, width=8, heads=2)
    want = encoder.body(encoder.first[None, None])[:, 0]
    torch.testing.assert_close(encoder(ragged()).pooled[3:], want)
    with pytest.raises(ConfigError, match="multiple of 6"):
        TransformerEncoder(MODALITY, width=8, heads=3)


def test_gradient_of_the_gradient_penalty_agrees_with_finite_differences(encoder):
    encoder.double()
    signal = ragged().map(lambda x: x.double() if x.is_floating_point() else x)
    parameters = list(encoder.parameters())
    direction = [torch.randn_like(p) for p in parameters]

    def penalty() -> torch.Tensor:
        x = signal.data.clone().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            features = encoder(Signal(x, signal.mask))
        score = features.pooled.sin().sum() + features.tokens.cos().sum()
        return torch.autograd.grad(score, x, create_graph=True)[0].square().sum()

    grads = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    exact = sum((g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None).item()

    def moved(step: float) -> float:
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=step)
        value = penalty().item()
        with torch.no_grad():
            torch._foreach_add_(parameters, direction, alpha=-step)
        return value

    assert exact != 0
    assert (moved(1e-6) - moved(-1e-6)) / 2e-6 == pytest.approx(exact, rel=1e-5)


def test_decoder_agrees_with_a_loop_over_cells():
    torch.manual_seed(0)
    decoder = RNNDecoder(4, MODALITY, {"label": Widths(2, 3)}, width=6)
    cell = nn.GRUCell(6, 6)
    cell.load_state_dict({name.removesuffix("_l0"): p for name, p in decoder.rnn.state_dict().items()})
    z, label = torch.randn(2, 4), torch.randn(2, 3)
    likelihood = decoder(z, {"label": Features.of_pooled(label)})
    state = torch.zeros(2, 6)
    for t in range(7):
        state = cell(decoder.linear(torch.cat([z, label], 1)) + decoder.position[t], state)
        out = decoder.out(state)
        torch.testing.assert_close(likelihood.values[:, t], out[:, :3])
        torch.testing.assert_close(likelihood.stop[:, t], out[:, 3])


def convolved(x: np.ndarray, layer: nn.Conv1d) -> np.ndarray:
    """Slide a kernel of three along [c n] with zeros beyond both ends."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    padded = np.pad(x, ((0, 0), (1, 1)))
    return np.stack([np.einsum("oik,ik->o", weight, padded[:, t : t + 3]) + bias for t in range(x.shape[1])], 1)


def doubled(x: np.ndarray) -> np.ndarray:
    """Put two points where there was one, a quarter to its left and right, and interpolate."""
    n = x.shape[1]
    return np.stack([np.interp((np.arange(2 * n) + 0.5) / 2 - 0.5, np.arange(n), channel) for channel in x])


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x)


def test_convolutional_decoder_agrees_with_one_in_numpy():
    torch.manual_seed(0)
    decoder = ConvDecoder(4, Series(channels=3, length=19, binary=(2,)), {"label": Widths(2, 3)}, channels=6).double()
    for parameter in decoder.parameters():  # blocks start as the identity
        nn.init.normal_(parameter, 0, 0.3)
    z, label = torch.randn(2, 4).double(), torch.randn(2, 3).double()
    likelihood = decoder(z, {"label": Features.of_pooled(label)})
    linear, _, first, _, second, _, third, _, last, _ = decoder.body
    for row in range(2):
        x = linear(torch.cat([z[row], label[row]])).detach().numpy().reshape(6, 5)
        for block in (first, second):
            x = doubled(x + convolved(leaky(convolved(leaky(x), block.first)), block.last))
        x = x + convolved(leaky(convolved(leaky(x), third.first)), third.last)
        out = torch.from_numpy(convolved(leaky(x), last)[:, :19])
        torch.testing.assert_close(likelihood.values[row], out[:3].T)
        torch.testing.assert_close(likelihood.stop[row], out[3])


def test_convolutional_decoder_makes_a_single_step():
    likelihood = ConvDecoder(4, Series(channels=1, length=1, binary=()), channels=2)(torch.zeros(3, 4), {})
    assert likelihood.mean.data.shape == (3, 1, 1)
    assert likelihood.mean.mask.all()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_sample_axes_pass_through_the_decoder_and_every_parameter_learns(cell):
    torch.manual_seed(0)
    decoder = RNNDecoder(4, MODALITY, cell=cell, width=6)
    z = torch.randn(2, 3, 4, 4)
    likelihood = decoder(z, {})
    by_hand = torch.stack([torch.stack([decoder(row, {}).values for row in plane]) for plane in z])
    torch.testing.assert_close(likelihood.values, by_hand)
    assert likelihood.is_binary.tolist() == [False, False, True]
    log_prob = likelihood.log_prob(ragged())
    assert log_prob.shape == (2, 3, 4)
    log_prob.sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in decoder.parameters())
