"""The benchmark's plugin against MultiVae itself: the same losses, gradients and encodings."""

import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
from torch.testing import assert_close

from fusion_engine import Batch, BuildError, Engine, Noise, Run, Signal
from fusion_engine.testing import check_component

pytest.importorskip("multivae", reason="comes with fusion-engine[benchmark]")

from multivae.data.datasets.base import MultimodalBaseDataset
from multivae.models import MVTCAE, MMVAEPlus, MMVAEPlusConfig, MoPoE, MoPoEConfig, MVTCAEConfig
from multivae.models.nn.base_architectures import BaseDecoder, BaseEncoder
from pythae.models.base.base_utils import ModelOutput

ROOT = Path(__file__).parents[1]
FILE = ROOT / "examples" / "plugins" / "multivae_models.py"
SIZES = {"a": 4, "b": 2, "c": 3}
NATIVE = {"mopoe": (MoPoE, MoPoEConfig), "mvtcae": (MVTCAE, MVTCAEConfig), "mmvae_plus": (MMVAEPlus, MMVAEPlusConfig)}
OPTIONS = {"mopoe": {"beta": 0.7}, "mvtcae": {"beta": 1.5, "alpha": 0.8}, "mmvae_plus": {"beta": 1.2, "K": 3}}
WEIGHTS = {"b": 2.5}


@pytest.fixture(scope="module")
def own() -> Engine:
    return Engine(plugins=[ROOT / "tests" / "toys.py", FILE])


def graph_of(own, model, options=None, private=True):
    nodes = {f"enc_{m}": {"use": "encoder/toys.mlp", "in": m} for m in SIZES}
    nodes["post"] = {
        "use": "posterior/multivae", "in": list(nodes), "with": {"model": model, "latent": 3}
    }  # fmt: skip
    for m in SIZES:
        z = ["post"]
        if model == "mmvae_plus" and private:
            nodes[f"own_{m}"] = {"use": "posterior/multivae_private", "in": f"enc_{m}", "with": {"latent": 2}}
            z.append(f"own_{m}")
        nodes[f"dec_{m}"] = {"use": "decoder/toys.mlp", "in": {"z": z}, "out": m}
    loss = {"use": "loss/multivae", "with": {"weights": WEIGHTS, "options": OPTIONS[model] if options is None else {}}}
    config = {
        "modalities": {m: {"use": "modality/toys.vector", "with": {"size": n}} for m, n in SIZES.items()},
        "nodes": nodes,
        "losses": {"multivae": loss},
    }
    torch.manual_seed(0)
    graph = own.build(config).graph
    with torch.no_grad():
        for p in graph.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return graph


def native_of(graph, model):
    """MultiVae's model with whole encoders and decoders of its own kind, which hold the graph's modules."""

    class Encoder(BaseEncoder):
        def __init__(self, i, m):
            super().__init__()
            self.latent_dim, self.i = 3, i
            self.body, self.shared = graph[f"enc_{m}"], graph["post"]
            self.private = graph[f"own_{m}"] if model == "mmvae_plus" else None

        def forward(self, x):
            pooled = self.body(Signal(x)).pooled
            loc, raw = self.shared.linears[self.i](pooled).chunk(2, -1)
            raw = raw if self.private else 10 * torch.tanh(raw / 10)
            if self.private is None:
                return ModelOutput(embedding=loc, log_covariance=raw)
            own, spread = self.private.linear(pooled).chunk(2, -1)
            return ModelOutput(
                embedding=loc, log_covariance=raw, style_embedding=own, style_log_covariance=spread
            )  # fmt: skip

    class Decoder(BaseDecoder):
        def __init__(self, m):
            super().__init__()
            self.latent_dim, self.body = 3, graph[f"dec_{m}"]

        def forward(self, z):
            return ModelOutput(reconstruction=self.body(z, {}).mean.data)

    kind, config = NATIVE[model]
    extra = {"modalities_specific_dim": 2} if model == "mmvae_plus" else {}
    made = kind(
        config(n_modalities=3, latent_dim=3, **OPTIONS[model], **extra),
        {m: Encoder(i, m) for i, m in enumerate(SIZES)},
        {m: Decoder(m) for m in SIZES},
    )
    made.rescale_factors = {m: WEIGHTS.get(m, 1.0) for m in SIZES}
    if model == "mmvae_plus":
        for m in SIZES:
            made.logvars_priors[m] = graph[f"own_{m}"].auxiliary
    return made


def run_of(graph, present=None, b=16):
    torch.manual_seed(1)
    signals = {m: v.example(b) for m, v in graph.modalities.items()}
    return Run(graph, Batch.of(signals, present), noise=Noise.of(b, 3))


def shapes(graph):
    """The parameters' shapes of every encoder and decoder that all of the example's models have."""
    names = [f"{kind}_{m}" for kind in ("enc", "dec") for m in ("image", "audio", "strokes", "text")]
    return {name: [tuple(p.shape) for p in graph[name].parameters()] for name in names}


def gradients(graph, loss):
    named = dict(graph.named_parameters())
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named.items(), found, strict=True)}


@pytest.mark.parametrize("model", NATIVE)
def test_loss_and_gradients_are_those_of_multivae(own, model):
    graph = graph_of(own, model)
    run = run_of(graph)
    term = graph.loss("multivae")(run, "generator")
    data = {m: run.batch.signals[m].data for m in SIZES}
    native = native_of(graph, model)
    with torch.random.fork_rng():
        torch.manual_seed(run.noise("multivae").key % 2**31)
        expected = native(MultimodalBaseDataset(data=data)).loss_sum
    assert int(term.count) == 16
    assert_close(term.sum, expected)
    ours, theirs = gradients(graph, term.sum), gradients(graph, expected)
    assert_close(ours, theirs)
    assert all(g.abs().max() > 0 for g in ours.values())


@pytest.mark.parametrize("model", NATIVE)
@pytest.mark.parametrize("known", [("a",), ("a", "c"), ("a", "b", "c")])
def test_encodings_are_those_of_multivae(own, model, known):
    graph = graph_of(own, model)
    run = run_of(graph, {m: torch.full([16], m in known) for m in SIZES})
    inputs = MultimodalBaseDataset(data={m: run.batch.signals[m].data for m in SIZES})
    native = native_of(graph, model)
    if model == "mopoe":
        loc, logvar = native.inference(inputs)["subsets"]["_".join(known)]
        assert_close(run["post"].distribution.scale, (logvar / 2).exp())
    else:
        found = native.encode(inputs, list(known), return_mean=True)
        loc = found.z
        for m in SIZES if model == "mmvae_plus" else ():
            assert_close(run[f"own_{m}"].z, found.modalities_z[m].expand(16, -1))
    assert_close(run["post"].z, loc)


def test_only_whole_rows_count(own):
    graph = graph_of(own, "mvtcae")
    present = {"a": torch.arange(16) < 12}
    some = graph.loss("multivae")(run_of(graph, present), "generator")
    run = run_of(graph)
    whole = graph.loss("multivae")(Run(graph, run.batch.take(present["a"]), noise=Noise.of(16, 3)), "generator")
    assert int(some.count) == 12
    assert_close(some.sum, whole.sum)
    nothing = graph.loss("multivae")(run_of(graph, {"a": torch.zeros(16, dtype=torch.bool)}), "generator")
    assert (float(nothing.sum), int(nothing.count)) == (0.0, 0)


def test_what_is_missing_is_said(own):
    with pytest.raises(BuildError, match=r"MMVAE.* has a private latent of each modality; 'enc_a' has none"):
        graph_of(own, "mmvae_plus", private=False)


def test_without_multivae_it_is_said_how_to_install_it(own, monkeypatch):
    monkeypatch.setitem(sys.modules, "multivae.models", None)
    with pytest.raises(BuildError, match="MultiVae is not installed") as caught:
        graph_of(own, "mopoe")
    assert 'pip install "fusion-engine[benchmark]"' in str(caught.value)


@pytest.mark.parametrize(
    ("use", "config"),
    [("posterior/multivae", {"model": m}) for m in NATIVE] + [("posterior/multivae_private", {})],
)
def test_posteriors_keep_the_rules(own, use, config):
    check_component(use, engine=own, config=config)


def test_the_baselines_of_the_example_have_its_encoders_decoders_and_steps():
    variants = run_path(str(ROOT / "examples" / "08_against_multivae.py"))["variants"]
    engine = Engine(plugins=[FILE])
    models = {name: engine.build(config) for name, config in variants([]).items()}
    assert [*models] == ["VAE-GAN", "MoPoE", "MVTCAE", "MMVAE+"]
    assert {sum(stage.steps for stage in model.config.stages) for model in models.values()} == {1320}
    first = shapes(models["VAE-GAN"].graph)
    for name, model in models.items():
        found = shapes(model.graph)
        assert found.keys() == first.keys()
        for node in found:
            wider = name == "MMVAE+" and node.startswith("dec_")
            assert len(found[node]) == len(first[node])
            assert (found[node] == first[node]) is not wider
