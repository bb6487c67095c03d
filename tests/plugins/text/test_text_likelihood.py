"""The text decoders and their likelihood, on a vocabulary so small that every text can be written down."""

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import one_hot

from fusion_engine import DataError, Decoder, Features, Noise, Signal, TextModality, Widths
from fusion_engine_text.rnn_decoder import RNNDecoder
from fusion_engine_text.transformer_decoder import TransformerDecoder

V, N, PADDING, END = 4, 4, 0, 1


class Tiny(TextModality):
    """Two letters, an end and padding."""

    def __init__(self, length: int = N) -> None:
        self.vocabulary, self.length, self.end, self.padding = V, length, END, PADDING

    def fit(self, samples: Any) -> dict[str, Any]:
        return {}

    def prepare(self, raw: Any) -> Signal:
        raise NotImplementedError

    def restore(self, signal: Signal) -> list[Any]:
        raise NotImplementedError

    def example(self, b: int) -> Signal:
        raise NotImplementedError

    def render(self, signal: Signal) -> Any:
        raise NotImplementedError


DECODERS: dict[str, Callable[..., Decoder]] = {
    "rnn": lambda *args, **more: RNNDecoder(*args, width=6, embedding=3, **more),
    "transformer": lambda *args, **more: TransformerDecoder(*args, width=6, heads=3, layers=2, **more),
}


@pytest.fixture(params=DECODERS)
def make(request) -> Callable[..., Decoder]:
    def make(length: int = N, **more: Any) -> Decoder:
        torch.manual_seed(1)
        decoder = DECODERS[request.param](3, Tiny(length), **more)
        with torch.no_grad():
            for p in decoder.parameters():
                p.mul_(1.5)
        return decoder

    return make


@pytest.fixture
def decoder(make) -> Decoder:
    return make()


def latents(*lead: int) -> Tensor:
    return torch.randn(*lead, 3, generator=torch.Generator().manual_seed(5))


def by_hand(decoder: Decoder, z: Tensor, text: list[int]) -> Tensor:
    """Logits of the token behind a text so far, from torch's own GRU cell or Transformer layer: z [z] -> [v]."""
    network: Any = decoder.network
    if isinstance(decoder, RNNDecoder):
        cell = nn.GRUCell(6, 6)
        weights = {name.removesuffix("_l0"): p for name, p in network.rnn.named_parameters()}
        h = (z @ network.linear.weight.T + network.linear.bias).tanh()
        for vector in [network.first, *(network.weight[x] for x in text)]:
            h = functional_call(cell, weights, (torch.cat([vector, z])[None], h[None]))[0]
        return h @ network.out.weight.T + network.out.bias
    x = torch.stack([z @ network.linear.weight.T + network.linear.bias, *(network.weight[x] for x in text)])
    x = (x + network.places[: len(x)])[None]
    for layer in network.layers:
        twin = nn.TransformerEncoderLayer(6, 3, 24, 0.0, "gelu", batch_first=True, norm_first=True)
        weights = {
            "self_attn.in_proj_weight": torch.cat([layer.query.weight, layer.keys_values.weight]),
            "self_attn.in_proj_bias": torch.cat([layer.query.bias, torch.zeros(12)]),
            **{f"self_attn.out_proj.{n}": p for n, p in layer.out.named_parameters()},
            **{f"norm1.{n}": p for n, p in layer.first.named_parameters()},
            **{f"norm2.{n}": p for n, p in layer.second.named_parameters()},
            **{f"linear1.{n}": p for n, p in layer.mlp[0].named_parameters()},
            **{f"linear2.{n}": p for n, p in layer.mlp[2].named_parameters()},
        }
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = functional_call(twin, weights, (x,), {"src_mask": mask, "is_causal": True})
    found: Tensor = network.out(network.norm(x))[0, -1]
    return found


def texts(length: int = N) -> Iterator[list[int]]:
    """Every text there is, padded."""
    letters = [x for x in range(V) if x != END]
    for n in range(length):
        for text in product(letters, repeat=n):
            yield [*text, END, *[PADDING] * (length - n - 1)]


def all_texts() -> Tensor:
    return torch.tensor(list(texts()))


def test_log_prob_is_the_product_of_the_probabilities_of_each_next_token(decoder):
    z, data = latents(2, 40), all_texts()
    assert len(data) == 40
    found = decoder(z, {}).log_prob(Signal(data))
    for k in range(2):
        for b, text in enumerate(data.tolist()):
            p = 1.0
            for t in range(min(text.index(END) + 1, N - 1)):
                p = p * float(by_hand(decoder, z[k, b], text[:t]).softmax(-1)[text[t]].detach())
            assert float(found[k, b].detach()) == pytest.approx(math.log(p), rel=1e-4, abs=1e-5)


def test_probabilities_of_all_texts_sum_to_one(make):
    for length in (2, 3, 5):
        decoder, data = make(length), torch.tensor(list(texts(length)))
        z = latents(3, 1).expand(3, len(data), 3)
        total = decoder(z, {}).log_prob(Signal(data)).exp().sum(-1)
        torch.testing.assert_close(total, torch.ones(3), rtol=0, atol=1e-5)


def test_what_follows_the_end_counts_nothing(decoder):
    z = latents(2)
    clean, strange = torch.tensor([[2, 1, 0, 0], [2, 3, 0, 1]]), torch.tensor([[2, 1, 3, 2], [2, 3, 0, 2]])
    found, wanted = (decoder(z, {}).log_prob(Signal(x)) for x in (strange, clean))
    torch.testing.assert_close(found, wanted)
    with pytest.raises(DataError, match=r"another length(.|\n)*4 tokens(.|\n)*3"):
        decoder(z, {}).log_prob(Signal(clean[:, :3]))


def test_one_hots_have_the_probability_of_their_ids_and_a_gradient(decoder):
    z, data = latents(40), all_texts()
    soft = one_hot(data, V).float().requires_grad_()
    found = decoder(z, {}).log_prob(Signal(soft))
    torch.testing.assert_close(found, decoder(z, {}).log_prob(Signal(data)))
    (gradient,) = torch.autograd.grad(found.sum(), soft)
    assert bool((gradient[5] != 0).any())


def frequencies(ids: Tensor) -> Tensor:
    """How often each text was drawn, [40]; nothing else was."""
    hits = (ids[:, None] == all_texts()).all(-1)
    assert bool((hits.sum(1) == 1).all())
    return hits.sum(0)


def test_samples_come_as_often_as_they_are_probable(decoder):
    draws = 20_000
    likelihood = decoder(latents(1).expand(draws, 3), {})
    with torch.no_grad():
        p = decoder(latents(1).expand(40, 3), {}).log_prob(Signal(all_texts())).exp()
        relaxed = likelihood.relaxed(Noise.of(draws, 2), 1.0).data
    deviation = (draws * p * (1 - p)).sqrt() + 1
    for ids in (likelihood.sample(Noise.of(draws, 1)).data, relaxed.argmax(-1)):
        assert float(((frequencies(ids) - draws * p) / deviation).abs().max()) < 4


def test_the_mean_takes_the_likeliest_token_each_time(decoder):
    z = latents(3, 5)
    found = decoder(z, {}).mean.data
    assert found.shape == (3, 5, N)
    assert found.dtype == torch.long
    for k, b in product(range(3), range(5)):
        text: list[int] = []
        while len(text) < N - 1 and END not in text:
            text.append(int(by_hand(decoder, z[k, b], text).argmax()))
        text += [] if END in text else [END]
        assert found[k, b].tolist() == text + [PADDING] * (N - len(text))


def relaxed_by_hand(decoder: Any, z: Tensor, noise: Noise, temperature: float) -> Tensor:
    """A row at a time, one-hots and their gradients through the GRU cell."""
    network, rows = decoder.network, []
    cell = nn.GRUCell(6, 6)
    weights = {name.removesuffix("_l0"): p for name, p in network.rnn.named_parameters()}
    gumbels = [-(-noise.at(t).uniform(V).log()).log() for t in range(N - 1)]
    for b in range(len(z)):
        h, vector, row = network.linear(z[b]).tanh(), network.first, []
        for t in range(N - 1):
            h = functional_call(cell, weights, (torch.cat([vector, z[b]])[None], h[None]))[0]
            soft = ((network.out(h) + gumbels[t][b]) / temperature).softmax(-1)
            row.append(one_hot(soft.argmax(), V) - soft.detach() + soft)
            if soft.argmax() == END:
                break
            vector = row[-1] @ network.weight
        else:
            row.append(one_hot(torch.tensor(END), V).float())
        rows.append(torch.stack([*row, *[one_hot(torch.tensor(PADDING), V).float()] * (N - len(row))]))
    return torch.stack(rows)


def test_relaxed_texts_are_one_hots_with_the_gradient_of_gumbel_softmaxes_fed_back():
    torch.manual_seed(1)
    decoder = DECODERS["rnn"](3, Tiny())
    z, noise = latents(30).requires_grad_(), Noise.of(30, 4)
    found, wanted = decoder(z, {}).relaxed(noise, 0.7).data, relaxed_by_hand(decoder, z, noise, 0.7)
    torch.testing.assert_close(found, wanted)
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert len({row.argmax(-1).tolist().index(END) for row in found.detach()}) == N
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    leaves = [z, *decoder.parameters()]
    grads, expected = (torch.autograd.grad((x * weights).sum(), leaves) for x in (found, wanted))
    for one, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_one_relaxed_token_is_differentiated_like_its_softmax(make):
    decoder, z, noise = make(2), latents(5), Noise.of(5, 9)
    leaf = z.clone().requires_grad_()
    weights = torch.randn(5, V, generator=torch.Generator().manual_seed(2))
    relaxed = decoder(leaf, {}).relaxed(noise, 0.6).data
    (found,) = torch.autograd.grad((relaxed[:, 0] * weights).sum(), leaf)
    assert torch.equal(relaxed[:, 1].argmax(-1), torch.where(relaxed[:, 0, END] == 1, PADDING, END))
    g = -(-noise.at(0).uniform(V).log()).log()

    def soft(z: Tensor) -> float:
        rows = [((by_hand(decoder, z[b], []) + g[b]) / 0.6).softmax(-1) @ weights[b] for b in range(5)]
        return float(sum(rows).detach().double())

    h = 1e-2
    for b, i in product(range(5), range(3)):
        step = torch.zeros(5, 3)
        step[b, i] = h
        slope = (soft(z + step) - soft(z - step)) / (2 * h)
        assert float(found[b, i]) == pytest.approx(slope, rel=0.02, abs=2e-4)


def test_padding_behind_the_end_has_no_gradient(decoder):
    z = latents(40).requires_grad_()
    data = decoder(z, {}).relaxed(Noise.of(40), 1.0).data
    behind = (data.detach().argmax(-1) == END).cumsum(1).roll(1, 1).bool() & (torch.arange(N) > 0)
    assert behind.any()
    assert torch.equal(data[behind].argmax(-1), torch.full([int(behind.sum())], PADDING))
    (gradient,) = torch.autograd.grad((data[behind] * torch.arange(V)).sum(), z)
    assert not gradient.any()


def test_conditions_and_sample_axes_reach_every_token(make):
    decoder = make(conditions={"c": Widths(5, 2)})
    z, pooled = latents(2, 3, 5), torch.randn(5, 2, generator=torch.Generator().manual_seed(3)).requires_grad_()
    signal = Signal(all_texts()[10:15])
    found = decoder(z, {"c": Features(torch.zeros(5, 1, 5), pooled, torch.ones(5, 1, dtype=torch.bool))})
    (gradient,) = torch.autograd.grad(found.log_prob(signal).sum(), pooled)
    assert bool((gradient != 0).all())
    assert found.log_prob(signal).shape == (2, 3, 5)
    assert found.sample(Noise.of(5)).data.shape == (2, 3, 5, N)
    assert found.relaxed(Noise.of(5), 1.0).data.shape == (2, 3, 5, N, V)


def test_the_weights_are_those_in_place_when_it_was_decoded(decoder):
    z, signal, noise = latents(40).requires_grad_(), Signal(all_texts()), Noise.of(40)
    changed = {name: (p + 0.3).detach() for name, p in decoder.named_parameters()}
    likelihood = functional_call(decoder, changed, (z, {}))
    found = [likelihood.log_prob(signal), likelihood.relaxed(noise, 1.0).data]
    tokens = [likelihood.mean.data, likelihood.sample(noise).data]
    sum(x.pow(2).sum() for x in found).backward()
    assert z.grad is not None
    assert bool(z.grad.any())
    assert all(p.grad is None for p in decoder.parameters())
    decoder.load_state_dict(changed)
    again = decoder(z, {})
    for x, y in zip(found, [again.log_prob(signal), again.relaxed(noise, 1.0).data], strict=True):
        assert torch.equal(x, y)
    assert all(map(torch.equal, tokens, [again.mean.data, again.sample(noise).data]))


def test_nothing_runs_before_it_is_asked_for(decoder, monkeypatch):
    calls: list[str] = []
    for name in ("teach", "start", "step"):
        method = getattr(type(decoder.network), name)

        def counted(self, *args, name=name, method=method):
            calls.append(name)
            return method(self, *args)

        monkeypatch.setattr(type(decoder.network), name, counted)
    likelihood = decoder(latents(4), {})
    assert calls == []
    likelihood.log_prob(Signal(all_texts()[:4]))
    assert calls == ["teach"]
    calls.clear()
    assert likelihood.mean is likelihood.mean
    assert calls.count("start") == 1
    assert "teach" not in calls
    assert not likelihood.mean.data.requires_grad


def test_generating_stops_when_every_row_has_ended(make, monkeypatch):
    decoder = make(50)
    with torch.no_grad():
        decoder.network.out.bias[END] = 1e3
    monkeypatch.setattr(type(decoder.network), "step", lambda *_: pytest.fail("a step too many"))
    ended = torch.tensor([END, *[PADDING] * 49]).expand(4, 50)
    likelihood = decoder(latents(4), {})
    assert torch.equal(likelihood.mean.data, ended)
    assert torch.equal(likelihood.relaxed(Noise.of(4), 1.0).data.argmax(-1), ended)


def test_withheld_tokens_matter_in_training_alone(make):
    data = Signal(all_texts())
    plain, forgetful = make(), make(forget=0.8)
    torch.testing.assert_close(forgetful.eval()(latents(40), {}).log_prob(data), plain(latents(40), {}).log_prob(data))
    first, second = (forgetful.train()(latents(40), {}).log_prob(data) for _ in range(2))
    assert not torch.allclose(first, second)


def test_half_precision_changes_little(decoder):
    z, data, noise = latents(40).requires_grad_(), Signal(all_texts()), Noise.of(40)
    full = decoder(z, {}).log_prob(data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        likelihood = decoder(z, {})
        half, relaxed, mean = likelihood.log_prob(data), likelihood.relaxed(noise, 1.0).data, likelihood.mean.data
        likelihood.sample(noise)
        (half.sum() + relaxed.pow(2).sum()).backward()
    assert (half.dtype, relaxed.dtype, mean.dtype) == (torch.float32, torch.float32, torch.long)
    torch.testing.assert_close(half, full, rtol=0.05, atol=0.1)


def test_double_precision_is_kept(decoder):
    z, data = latents(40), Signal(all_texts())
    wanted = decoder(z, {}).log_prob(data)
    likelihood = decoder.double()(z.double(), {})
    found = likelihood.log_prob(data)
    assert (found.dtype, likelihood.relaxed(Noise.of(40), 1.0).data.dtype) == (torch.float64, torch.float64)
    torch.testing.assert_close(found.float(), wanted)
