"""What is inferred in use under a fitted prior: z of one posterior or of several, and what is decoded from it."""

import pytest
import torch
from torch.distributions import Normal
from torch.testing import assert_close

from fusion_engine import Noise, Posterior, sampling
from fusion_engine.data import Prepared

NODES = {
    "enc_a": {"use": "encoder/toys.mlp", "in": "a"},
    "enc_b": {"use": "encoder/toys.mlp", "in": "b"},
    "post": {"use": "posterior/poe", "in": ["enc_a", "enc_b"], "with": {"latent": 3}},
    "own": {"use": "posterior/gaussian", "in": "enc_b", "with": {"latent": 2}},
    "dec_a": {"use": "decoder/toys.mlp", "in": {"z": ["post", "own"]}, "out": "a"},
    "dec_b": {"use": "decoder/toys.mlp", "in": {"z": "post"}, "out": "b"},
}


def fitted(toys, of, infer=True, **more):
    torch.manual_seed(0)
    prior = {"use": "prior/mixture", "of": of, "with": {"components": 4, "infer": infer, **more}}
    config = {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in {"a": 4, "b": 2}.items()},
        "nodes": {**NODES, "mixture": prior},
        "losses": {"reconstruction": {"use": "loss/reconstruction"}, "kl": {"use": "loss/kl"}},
        "stages": [{"name": "train", "steps": 30, "losses": ["reconstruction", "kl"]}],
        "train": {"batch_size": 64},
    }
    model = toys.build(config)
    group = torch.randint(2, (200, 1)) * 4.0 - 2
    rows = {"a": (group + 0.3 * torch.randn(200, 4)).tolist(), "b": (group + 0.3 * torch.randn(200, 2)).tolist()}
    return model.fit(rows), rows


def of_normals(*parts):
    def joined(name):
        pairs = [(getattr(q, name).loc, getattr(q, name).scale) for q in parts]
        return Normal(*(torch.cat(each, -1) for each in zip(*pairs, strict=True)))

    return Posterior.of(joined("distribution"), joined("prior"))


@pytest.mark.parametrize("of", ["post", ["post", "own"]])
def test_translation_decodes_what_is_inferred_under_the_fitted_prior(toys, of):
    model, rows = fitted(toys, of)
    given = {"b": rows["b"][:8]}
    (run,) = model.runs(given)
    names = [of] if isinstance(of, str) else of
    informed = model.graph["mixture"].infer(of_normals(*(run[p] for p in names)))
    z = dict(zip(names, torch.split(informed.z, [model.graph[p].latent for p in names], -1), strict=True))
    used = [z.get(p, run[p].z) for p in ("post", "own")]
    expected = model.graph["dec_a"](torch.cat(used, -1), {}).mean.data
    assert_close(model.translated_signals(given, ["a"])["a"].data, expected)
    plain = model.graph["dec_a"](torch.cat([run["post"].z, run["own"].z], -1), {}).mean.data
    assert (expected - plain).abs().max() > 1e-3
    assert_close(sampling.singled(run)["own"].distribution.loc, run["own"].distribution.loc)


def test_latents_and_the_fit_itself_are_those_of_the_posterior(toys):
    model, rows = fitted(toys, "post")
    (run,) = model.runs({m: rows[m][:8] for m in rows})
    assert torch.equal(model.latents({m: rows[m][:8] for m in rows}, "post"), run["post"].z)
    before = {n: b.clone() for n, b in model.graph["mixture"].named_buffers()}
    model.fit_priors(model.prepare(rows))
    assert all(torch.equal(b, before[n]) for n, b in model.graph["mixture"].named_buffers())


def test_draws_differ_by_seed_and_a_saved_model_infers_the_same(toys, tmp_path):
    model, rows = fitted(toys, "post")
    given = {"b": rows["b"][:8]}
    draws = [model.translated_signals(given, ["a"], sample=True, seed=s)["a"].data for s in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    again = toys.load(model.save(tmp_path / "model"))
    assert torch.equal(
        again.translated_signals(given, ["a"])["a"].data, model.translated_signals(given, ["a"])["a"].data
    )


def test_without_infer_translation_is_that_of_the_posterior(toys):
    model, rows = fitted(toys, "post", infer=False)
    given = {"b": rows["b"][:8]}
    (run,) = model.runs(given)
    plain = model.graph["dec_a"](torch.cat([run["post"].z, run["own"].z], -1), {}).mean.data
    assert torch.equal(model.translated_signals(given, ["a"])["a"].data, plain)


def test_several_draws_a_row_hold_more_components(toys):
    model, rows = fitted(toys, "post", infer=False, components=200, draws=5)
    assert int((fitted(toys, "post", infer=False, components=200)[0].graph["mixture"].weights > 0).sum()) == 50
    z = torch.cat([model.latents(rows, "post", sample=True, seed=seed) for seed in range(5)])
    again = type(model.graph["mixture"])(latent=3, components=200)
    again.fit(z)
    assert int((again.weights > 0).sum()) == 200
    for name, buffer in model.graph["mixture"].named_buffers():
        assert torch.equal(buffer, again.get_buffer(name))


def scores(model, z):
    """The least convinced expert's log density of z, given what is decoded from z: by separate calls."""
    a = model.graph["dec_a"](torch.cat([z["post"], z["own"]], -1), {}).mean.data
    b = model.graph["dec_b"](z["post"], {}).mean.data
    (run,) = model.runs({"a": a.tolist(), "b": b.tolist()})
    shared = [q.log_prob(z["post"]).sum(-1) for q in run["post"].experts.values()]
    assert len(shared) == 2
    return torch.stack(shared).amin(0) + run["own"].distribution.log_prob(z["own"]).sum(-1)


def test_generation_keeps_the_candidate_that_its_decodings_make_most_likely(toys):
    model, _ = fitted(toys, ["post", "own"], infer=False, candidates=5)
    n, prior = 40, model.graph["mixture"]
    (run,) = model.runs(Prepared([{}] * n, model.modalities), seed=3)
    proposals = prior.proposals(run.noise("generate").at("mixture"), 5)
    found = torch.stack([scores(model, {"post": z[:, :3], "own": z[:, 3:]}) for z in proposals])
    best = found.argmax(0)
    assert len(best.unique()) == 5
    z = proposals[best, torch.arange(n)]
    made = model.generated_signals(n, seed=3)
    assert_close(made["a"].data, model.graph["dec_a"](z, {}).mean.data)
    assert_close(made["b"].data, model.graph["dec_b"](z[:, :3], {}).mean.data)
    prior.candidates = 1
    first = model.generated_signals(n, seed=3)
    assert_close(first["b"].data, model.graph["dec_b"](proposals[0][:, :3], {}).mean.data)


def test_candidates_of_a_row_are_of_one_component(toys):
    prior = fitted(toys, "post", infer=False)[0].graph["mixture"]
    prior.means.copy_(torch.arange(4.0)[:, None] * 100)
    prior.factors.copy_(torch.eye(3).expand(4, 3, 3))
    component = (prior.proposals(Noise.of(500, seed=0), 3) / 100).round()
    assert torch.equal(component, component[:1].expand(3, -1, -1))
    counts = torch.bincount(component[0, :, 0].long(), minlength=4) / 500
    assert_close(counts, prior.weights, atol=0.08, rtol=0)
    offsets = prior.proposals(Noise.of(500, seed=0), 3) - component * 100
    assert_close(torch.corrcoef(offsets.reshape(3, -1)), torch.eye(3), atol=0.1, rtol=0)
