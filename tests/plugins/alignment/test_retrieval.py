import numpy as np
import pytest
import torch

from fusion_engine import ConfigError, DataError, Engine, FusionError
from fusion_engine_alignment.deep_cca import canonical_correlations
from fusion_engine_alignment.retrieval import retrieve, similarities

MODALITIES = {"left": "modality/number", "right": "modality/number"}


def rows(n, seed, noise=0.02):
    """Two views of a hidden vector u: some mixed and bent, some mixed otherwise."""
    g = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(4, 6, generator=torch.Generator().manual_seed(s)) for s in (100, 101))
    u = torch.randn(n, 4, generator=g)
    left = torch.tanh(u @ first) + noise * torch.randn(n, 6, generator=g)
    right = torch.relu(u @ second) - torch.relu(-u @ second).sqrt() + noise * torch.randn(n, 6, generator=g)
    return {"left": left.tolist(), "right": right.tolist()}


def trained(engine, loss, epochs=30, **options):
    train = {"batch_size": 64, **options.pop("train", {})}
    return engine.recipe("contrastive", MODALITIES, loss=loss, width=8, epochs=epochs, lr=5e-3, train=train, **options)


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_rows_find_their_other_half_among_64(engine, loss, tmp_path):
    model, test = trained(engine, loss), rows(64, 1)
    before = [p.detach().clone() for p in model.graph.loss("align").parameters()]
    data = rows(512, 0)
    data["right"][:40] = [None] * 40
    model.fit(data)
    after = list(model.graph.loss("align").parameters())
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))  # the loss's own learn too
    for source, target in (("left", "right"), ("right", "left")):
        found = retrieve(model, {source: test[source]}, f"embed_{source}", {target: test[target]}, f"embed_{target}")
        right = (found[:, 0] == torch.arange(64)).float().mean()
        assert right > 0.6  # chance: 1 / 64
    model.save(tmp_path / "saved")
    again = Engine().load(tmp_path / "saved")
    for a, b in zip(after, again.graph.loss("align").parameters(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(again.features(test, "embed_left"), model.features(test, "embed_left"))


def bent(n, seed):
    """y is what x gives after a bend that no linear map undoes, beside noise."""
    g = np.random.default_rng(seed)
    u = g.uniform(-1, 1, (n, 2))
    x = np.c_[u[:, 0], u[:, 1], g.normal(size=n)]
    y = np.c_[u[:, 0] ** 2 + 0.05 * g.normal(size=n), np.abs(u[:, 1]) + 0.05 * g.normal(size=n), g.normal(size=n)]
    return {"left": x.tolist(), "right": y.tolist()}


def test_deep_cca_finds_a_held_out_correlation_that_no_linear_map_has(engine):
    test = bent(1000, 1)
    linear = canonical_correlations(*(torch.tensor(test[m]) for m in MODALITIES))[:2].sum()
    model = engine.recipe(
        "contrastive", MODALITIES, loss="deep_cca", width=2, epochs=25, lr=5e-3, train={"batch_size": 128}
    )
    model.fit(bent(1024, 0))
    deep = canonical_correlations(model.features(test, "embed_left"), model.features(test, "embed_right")).sum()
    assert float(linear) < 0.3
    assert float(deep) > 1.5


def test_similarity_is_the_cosine_of_the_vectors_of_nodes(engine):
    model, data = trained(engine, "clip"), rows(7, 0)
    model.prepare(data)
    x, y = (model.features({m: data[m]}, f"embed_{m}").double().numpy() for m in MODALITIES)
    expected = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in y] for a in x]
    args = [{"left": data["left"]}, "embed_left", {"right": data["right"]}, "embed_right"]
    found = similarities(model, *args)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)
    assert retrieve(model, *args, k=3).tolist() == np.argsort(-np.array(expected), 1)[:, :3].tolist()
    assert not found.requires_grad
    with pytest.raises(DataError, match="different widths"):
        retrieve(model, args[0], "enc_left", *args[2:])


def test_features_are_those_that_a_run_gives_whatever_else_is_missing(engine):
    model, data = trained(engine, "clip"), rows(5, 0)
    model.prepare(data)
    (run,) = model.runs(data)
    torch.testing.assert_close(model.features(data, "enc_left"), run["enc_left"].pooled)
    torch.testing.assert_close(model.features({"left": data["left"]}, "embed_left"), run["embed_left"].pooled)
    gap = {"left": [*data["left"][:4], None]}
    assert model.features(gap, "embed_left")[4].eq(0).all()
    for node in ("embed_lft", "left"):
        with pytest.raises(FusionError, match=r"(?s)no node.*(embed_left|enc_left)"):
            model.features(data, node)


def test_what_lacks_a_sample_is_never_found_and_never_asks(engine):
    model, data = trained(engine, "clip"), rows(6, 0)
    model.prepare(data)
    queries, candidates = {"left": data["left"]}, {"right": [None, *data["right"][1:]]}
    found = retrieve(model, queries, "embed_left", candidates, "embed_right", k=5)
    assert 0 not in found.flatten().tolist()
    with pytest.raises(DataError, match="k from 1 to 5"):
        retrieve(model, queries, "embed_left", candidates, "embed_right", k=6)
    with pytest.raises(DataError, match=r"(?s)nothing to search by.*row 0"):
        retrieve(model, candidates, "embed_right", queries, "embed_left")
    with pytest.raises(FusionError, match="did you mean 'embed_left'"):
        retrieve(model, queries, "embed_lef", candidates, "embed_right")


def test_one_modality_is_refused(engine):
    with pytest.raises(ConfigError, match="one modality has nothing"):
        engine.recipe("contrastive", {"left": "modality/number"})
