"""MMVAE+ and DMVAE, which are wirings: their objectives by hand, and which components meet in decoders."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from fusion_engine import Batch, Noise, Run

SIZES = {"a": 4, "b": 2}
PRESENT = {"a": (True, False, True, False), "b": (True, True, False, False)}
SEPARATE = {
    "reconstruction": {"use": "loss/reconstruction", "with": {"balance": False}},
    "kl": {"use": "loss/kl"},
}


def model_of(toys, shared, private, losses):
    """Wire a shared posterior, and a private one a modality; ``private`` says of which inputs, and with what."""
    nodes = {f"enc_{m}": {"use": "encoder/toys.mlp", "in": m} for m in SIZES}
    nodes["post"] = {"use": f"posterior/{shared}", "in": ["enc_a", "enc_b"], "with": {"latent": 3}}
    for m in SIZES:
        nodes[f"own_{m}"] = private(m)
        nodes[f"dec_{m}"] = {"use": "decoder/toys.mlp", "in": {"z": ["post", f"own_{m}"]}, "out": m}
    config = {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in SIZES.items()},
        "nodes": nodes,
        "losses": losses,
    }
    torch.manual_seed(0)
    model = toys.build(config)
    model.graph.eval()
    with torch.no_grad():
        for p in model.graph.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return model


def cross_private(m):
    config = {"own": f"enc_{m}", "latent": 2}
    return {"use": "posterior/cross_private", "in": ["enc_a", "enc_b"], "with": config}


def gaussian(m):
    return {"use": "posterior/gaussian", "in": f"enc_{m}", "with": {"latent": 2}}


def run_of(graph, seed=0):
    signals = {m: v.example(4) for m, v in graph.modalities.items()}
    present = {m: torch.tensor(p) for m, p in PRESENT.items()}
    return Run(graph, Batch.of(signals, present), noise=Noise.of(4, seed), sample=True)


def held(row):
    return [i for i, m in enumerate(PRESENT) if PRESENT[m][row]]


def log_p(graph, run, m, row, *z):
    mean = graph[f"dec_{m}"](torch.cat(z)[None], {}).mean.data[0]
    return Normal(mean, 1.0).log_prob(run.batch.signals[m].data[row]).sum()


def kl_at(posterior, *place):
    q = Normal(posterior.distribution.loc[place], posterior.distribution.scale[place])
    return kl_divergence(q, Normal(torch.zeros_like(q.loc), 1.0)).sum()


def test_mmvae_plus_reconstructs_itself_by_its_own_latent_and_others_by_one_drawn_anew(toys):
    graph = model_of(toys, "moe", cross_private, SEPARATE).graph
    run = run_of(graph)
    post, own = run["post"], [run["own_a"], run["own_b"]]
    reconstruction, kl = torch.zeros(()), torch.zeros(())
    for row in range(4):
        for i in held(row):  # z from input i; w of i from i too, that of the other from r
            for j in held(row):
                m = list(SIZES)[j]
                reconstruction = reconstruction - log_p(graph, run, m, row, post.z[i, row], own[j].z[i, row]) / len(
                    held(row)
                )
            kl = kl + (kl_at(post, i, row) + kl_at(own[i], i, row)) / len(held(row))
    assert_close(graph.loss("reconstruction")(run, "generator").sum, reconstruction)
    assert_close(graph.loss("kl")(run, "generator").sum, kl)
    for decoder in ("dec_a", "dec_b"):
        assert_close(run.weights(decoder), post.weights)


def test_a_plain_private_latent_leaves_the_weights_to_the_shared_one(toys):
    graph = model_of(toys, "mopoe", gaussian, SEPARATE).graph
    run = run_of(graph)
    assert torch.equal(run.weights("dec_a"), run["post"].weights)


def test_shared_and_private_latents_keep_the_same_component(toys):
    graph = model_of(toys, "moe", cross_private, SEPARATE).graph
    assert {graph.wiring.company(n) for n in ("post", "own_a", "own_b")} == {"post"}
    seen = set()
    for seed in range(20):
        run = run_of(graph, seed)
        for view in (run, run.generated("reconstruction")):
            names = ("post", "own_a", "own_b")
            ones = [run.one(n) if view is run else view[n] for n in names]
            kept = [(one.z == run[n].z).all(-1).long().argmax(0)[0] for n, one in zip(names, ones, strict=True)]
            assert kept[0] == kept[1] == kept[2]
            seen.add(int(kept[0]))
    assert seen == {0, 1}


def test_posteriors_that_meet_in_no_decoder_choose_for_themselves(toys):
    nodes = {f"enc_{m}": {"use": "encoder/toys.mlp", "in": m} for m in SIZES}
    for m in SIZES:
        nodes[f"post_{m}"] = {"use": "posterior/moe", "in": ["enc_a", "enc_b"], "with": {"latent": 2}}
        nodes[f"dec_{m}"] = {"use": "decoder/toys.mlp", "in": {"z": f"post_{m}"}, "out": m}
    modalities = {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in SIZES.items()}
    wiring = toys.build({"modalities": modalities, "nodes": nodes, "losses": SEPARATE}).graph.wiring
    assert [wiring.company(f"post_{m}") for m in SIZES] == ["post_a", "post_b"]
    assert wiring.company("enc_a") == "enc_a"


def test_translation_takes_the_shared_latent_from_what_is_given_and_the_private_one_from_its_prior(toys):
    model = model_of(toys, "moe", cross_private, SEPARATE)
    graph = model.graph
    row = torch.randn(4, generator=torch.Generator().manual_seed(1))
    given = {"a": [row.tolist()] * 3000}
    shared, private = (model.latents(given, n, sample=True) for n in ("post", "own_b"))
    (run,) = [next(iter(model.runs({"a": [row.tolist()]})))]
    with torch.no_grad():
        expert = run["post"].experts["enc_a"]
    assert_close(shared.mean(0), expert.loc[0], atol=0.1 * float(expert.scale.max()), rtol=0)
    assert_close(shared.std(0), expert.scale[0], atol=0.0, rtol=0.06)
    assert_close(private.mean(0), torch.zeros(2), atol=0.08, rtol=0)
    assert_close(private.std(0), torch.ones(2), atol=0.06, rtol=0)
    auxiliary = graph["own_b"](
        {n: run.features(n) for n in ("enc_a", "enc_b")}, torch.tensor([[True, True]])
    ).distribution.scale[0]
    assert (auxiliary - 1).abs().max() > 0.05  # which would have shown
    mean = graph["dec_b"](torch.cat([expert.loc, torch.zeros(1, 2)], -1), {}).mean.data
    assert_close(torch.tensor(model.translate({"a": [row.tolist()]}, to="b")), mean)


@pytest.mark.parametrize("shared", ["poe", "mvae"])
def test_dmvae_is_a_product_of_experts_beside_a_gaussian_of_each_modality(toys, shared):
    """Lee and Pavlovic 2021, arXiv:2012.13024; ``mvae`` infers the shared latent from each modality alone too."""
    graph = model_of(toys, shared, gaussian, SEPARATE).graph
    run = run_of(graph)
    objective = torch.zeros(())
    for row in range(4):
        have = held(row)
        private = sum((kl_at(run[f"own_{list(SIZES)[i]}"], row) for i in have), torch.zeros(()))
        if shared == "poe":
            paths = [((row,), 1.0)]
        else:
            several = [1 + i for i in have] if len(have) > 1 else []
            paths = [((k, row), 1 / (1 + len(several))) for k in [0, *several]]
        for place, share in paths if have else []:
            z = run["post"].z[place]
            log = sum(log_p(graph, run, m, row, z, run[f"own_{m}"].z[row]) for m in (list(SIZES)[i] for i in have))
            objective = objective + share * (log - kl_at(run["post"], *place))
        objective = objective - private
    found = sum(graph.loss(n)(run, "generator").sum for n in SEPARATE)
    assert_close(found, -objective)
