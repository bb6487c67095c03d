import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from fusion_engine import ConfigError, Engine, Signal
from fusion_engine_text.modality import Text
from fusion_engine_text.transformer_encoder import TransformerEncoder

MODELS = ["bert", "roberta", "distilbert", "electra", "albert", "xlm-roberta", "t5"]
MODALITY = Text(length=12)
TEXTS = ["seven", "", "the digit 8", "no"]


def made(model: str = "bert", **config) -> TransformerEncoder:
    torch.manual_seed(0)
    return TransformerEncoder(MODALITY, model=model, width=16, heads=2, **config)


def signal(*texts: str) -> Signal:
    return MODALITY.collate([MODALITY.prepare(text) for text in texts])


def soft(x: Signal) -> Signal:
    return Signal(one_hot(x.data, 259).float())


@pytest.fixture(params=MODELS)
def encoder(request) -> TransformerEncoder:
    return made(request.param)


def test_one_hots_embed_as_their_ids(encoder):
    x = signal(*TEXTS)
    torch.testing.assert_close(encoder.embed(soft(x).data), encoder.embed(x.data))
    one, other = encoder(x), encoder(soft(x))
    torch.testing.assert_close(one.tokens, other.tokens)
    assert torch.equal(one.mask, other.mask)
    torch.testing.assert_close(one.pooled, other.pooled)


def test_it_is_the_librarys_model_on_ids_with_its_attention_mask(encoder):
    x = signal(*TEXTS)
    mask = torch.arange(12) < torch.tensor([[len(t) + 1] for t in TEXTS])
    with torch.no_grad():
        out = encoder.network(input_ids=x.data, attention_mask=mask.long()).last_hidden_state
        features = encoder(x)
    assert torch.equal(features.mask, mask)
    torch.testing.assert_close(features.tokens, out * mask[..., None], rtol=1e-4, atol=1e-5)
    pooled = [encoder.out(out[i, : len(t) + 1].mean(0)) for i, t in enumerate(TEXTS)]
    torch.testing.assert_close(features.pooled, torch.stack(pooled), rtol=1e-4, atol=1e-5)


def test_a_row_does_not_depend_on_longer_ones_nor_on_what_follows_its_end(encoder):
    alone, among = encoder(signal("seven", "")), encoder(signal("seven", "", "the digit 8"))
    assert alone.tokens.shape[1] == 6
    torch.testing.assert_close(alone.pooled, among.pooled[:2], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.tokens, among.tokens[:2, :6], rtol=1e-4, atol=1e-5)
    strange = signal("seven", "").data
    strange[0, 8], strange[1, 3] = 100, 1
    torch.testing.assert_close(encoder(Signal(strange)).pooled, alone.pooled, rtol=1e-4, atol=1e-5)


def test_a_text_without_an_end_is_valid_to_its_last_token():
    data = torch.full((2, 12), 100)
    data[1, 3] = 1
    assert made()(Signal(data)).mask.sum(1).tolist() == [12, 4]


def squared_gradient(encoder: TransformerEncoder, x: Tensor, on: Signal) -> Tensor:
    score = encoder.encode(x, on).pooled.pow(2).sum()
    (gradient,) = torch.autograd.grad(score, x, create_graph=True)
    return gradient.pow(2).sum()


def test_a_penalty_on_its_gradient_has_the_right_gradient(encoder):
    encoder, on = encoder.double(), signal("seven", "no")
    x = encoder.embed(on.data).detach().requires_grad_()
    weight = encoder.out.weight
    squared_gradient(encoder, x, on).backward()
    assert weight.grad is not None
    assert all(p.grad.isfinite().all() for p in encoder.parameters() if p.grad is not None)
    inner = next(p for n, p in encoder.network.named_parameters() if n.endswith("weight") and p.ndim == 2 and "0" in n)
    for p in (weight, inner):
        direction, h = torch.randn(p.shape, generator=torch.Generator().manual_seed(1)).double(), 1e-4
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.add_(sign * h * direction)
            values.append(float(squared_gradient(encoder, x, on).detach()))
            with torch.no_grad():
                p.sub_(sign * h * direction)
        assert float((p.grad * direction).sum()) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-3)


def test_token_and_place_vectors_start_at_unit_deviation(encoder):
    width = encoder.embed(signal("").data).shape[-1]
    vectors = [m.weight for m in encoder.network.modules() if isinstance(m, nn.Embedding) and m.embedding_dim == width]
    assert width == 16
    assert float(torch.cat([v.flatten() for v in vectors]).std().detach()) == pytest.approx(1, abs=0.05)


def test_sizes_and_further_keys_reach_the_model():
    config = made("distilbert", layers=3, dropout=0.2, config={"hidden_dim": 20, "activation": "relu"}).network.config
    assert (config.dim, config.n_layers, config.n_heads, config.hidden_dim) == (16, 3, 2, 20)
    assert (config.dropout, config.attention_dropout, config.activation) == (0.2, 0.2, "relu")
    assert made("bert").network.config.intermediate_size == 64
    first, second = (made(dropout=0.5).train()(signal("seven")).pooled for _ in range(2))
    assert torch.equal(first, second)  # seeded alike, the same is dropped
    still = made(dropout=0.5).eval()
    assert torch.equal(still(signal("seven")).pooled, made().eval()(signal("seven")).pooled)
    assert not torch.allclose(first, still(signal("seven")).pooled)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model": "brt"}, r"no text encoder 'brt'(.|\n)*'bert'"),
        ({"model": "gpt2"}, "no text encoder 'gpt2'"),
        ({"heads": 3}, r"multiple of `heads`(.|\n)*a multiple of 3(.|\n)*64"),
        ({"config": {"hidden_akt": "relu"}}, r"unknown key 'hidden_akt'(.|\n)*'hidden_act'"),
        ({"config": {"hidden_size": 8}}, r"sets 'hidden_size'(.|\n)*set `width` instead"),
        ({"model": "distilbert", "config": {"n_heads": 1}}, r"sets 'n_heads'(.|\n)*set `heads` instead"),
        ({"config": {"vocab_size": 8}}, "which the texts decide"),
        ({"config": {"hidden_act": "rellu"}}, r"cannot make this 'bert'(.|\n)*rellu"),
        ({"config": {"intermediate_size": "wide"}}, r"cannot make this 'bert'(.|\n)*intermediate_size"),
        ({"config": {"max_position_embeddings": 4}}, "which the texts decide"),
    ],
)
def test_wrong_configs_are_refused_in_words(config, words):
    with pytest.raises(ConfigError, match=words):
        TransformerEncoder(MODALITY, **config)


def test_an_unknown_key_of_its_own_is_refused(engine: Engine):
    config = {
        "modalities": {"text": {"use": "modality/text"}, "label": {"use": "modality/category"}},
        "nodes": {
            "enc": {"use": "encoder/text.transformer", "in": "text", "with": {"layer": 3}},
            "head": {"use": "head/classification", "in": "enc", "out": "label"},
        },
    }
    with pytest.raises(ConfigError, match=r"layer(.|\n)*layers"):
        engine.build(config)
