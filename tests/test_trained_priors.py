"""A prior node that trains takes the place of its posterior's own: in the KL, in draws, in gradients, in files."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from fusion_engine import Batch, BuildError, ConfigError, Engine, FusionError, Noise, Posterior, Run
from fusion_engine.priors import under
from fusion_engine.run import prior_draw

CONFIG: dict[str, Any] = yaml.safe_load("""
name: trained priors
modalities:
  x: {use: modality/toys.vector, with: {size: 3}}
  y: {use: modality/toys.vector, with: {size: 2}}
nodes:
  flow: {use: prior/flow, of: style, with: {layers: 2, width: 4}}
  enc_x: {use: encoder/toys.mlp, in: x}
  enc_y: {use: encoder/toys.mlp, in: y}
  post: {use: posterior/mopoe, in: [enc_x, enc_y], with: {latent: 3}}
  style: {use: posterior/gaussian, in: enc_x, with: {latent: 2}}
  vamp: {use: prior/vamp, of: post, with: {components: 4}}
  dec_x: {use: decoder/toys.mlp, in: {z: [post, style]}, out: x}
  dec_y: {use: decoder/toys.mlp, in: {z: [post, style]}, out: y}
  disc: {use: encoder/toys.mlp, in: x}
  score: {use: head/score, in: disc}
losses:
  reconstruction: {use: loss/reconstruction}
  kl: {use: loss/kl}
  game: {use: loss/relativistic, with: {score: score, fakes: {prior: 1}}}
stages:
  - {name: first, steps: 2, losses: [reconstruction, kl]}
  - {name: second, steps: 2, losses: [reconstruction, kl, game]}
train: {batch_size: 4, checkpoint_every: 1}
""")
X = [[1.0, 2.0, 0.0], [0.5, -1.0, 1.0], None, [-2.0, 1.0, 0.5], [3.0, 3.0, -1.0], None]
Y = [[1.0, 0.0], None, [0.5, 0.5], [-1.0, -2.0], None, [2.0, 1.0]]
DATA = {"x": X, "y": Y}
GAPS = {"x": torch.tensor([True, True, False, True]), "y": torch.tensor([True, False, True, False])}


def changed(**nodes: Any) -> dict[str, Any]:
    """Change nodes of the config; None removes one."""
    config = copy.deepcopy(CONFIG)
    config["nodes"] = {n: p for n, p in {**config["nodes"], **nodes}.items() if p is not None}
    return config


def graph_of(toys: Engine, config: dict[str, Any] = CONFIG) -> Any:
    """Build in double precision, in training mode, the priors moved away from where they start."""
    graph = toys.build(config).graph.double().train()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name in graph.wiring.of_kind("prior"):
            for p in graph[name].parameters():
                p.add_(0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return graph


def run_of(graph: Any, **options: Any) -> Run:
    signals = {m: modality.example(4).map(torch.Tensor.double) for m, modality in graph.modalities.items()}
    return Run(graph, Batch.of(signals, GAPS), noise=Noise.of(4, 3), **options)


def vamp_density(graph: Any, z: torch.Tensor) -> torch.Tensor:
    """log p(z) of one z by a loop over pseudo-inputs and subsets, through the experts' own Linears."""
    total = torch.zeros(()).double()
    for i in range(4):
        raw = [f(u[i]) for f, u in zip(graph["post"].experts.linears, graph["vamp"].pseudo, strict=True)]
        experts = [Normal(r[:3], (5 * torch.tanh(r[3:] / 10)).exp()) for r in raw]
        for subset in ([0], [1], [0, 1]):
            precision = sum(experts[e].scale ** -2 for e in subset)
            loc = sum(experts[e].loc * experts[e].scale ** -2 for e in subset) / precision
            total = total + Normal(loc, precision**-0.5).log_prob(z).sum().exp() / 12
    return total.log()


def test_the_kl_is_the_estimate_by_hand_with_rows_that_miss_inputs(toys: Engine) -> None:
    graph = graph_of(toys)
    run = run_of(graph)
    post, style, flow = run["post"], run["style"], graph["flow"].flow(1)
    by_hand = torch.zeros(()).double()
    for row in range(4):
        for k in range(4):
            if post.weights[k, row] > 0:
                z, q = post.z[k, row], post.distribution
                log_q = Normal(q.loc[k, row], q.scale[k, row]).log_prob(z).sum()
                by_hand = by_hand + post.weights[k, row] * (log_q - vamp_density(graph, z))
        if GAPS["x"][row]:
            z, q = style.z[row], style.distribution
            log_q = Normal(q.loc[row], q.scale[row]).log_prob(z).sum()
            by_hand = by_hand + log_q - flow.log_prob(z[None])[0]
    term = graph.loss("kl")(run, "generator")
    assert_close(term.sum, by_hand)
    assert int(term.count) == 4


def test_a_row_in_which_the_posterior_has_nothing_takes_z_from_the_prior(toys: Engine) -> None:
    graph = graph_of(toys)
    run = run_of(graph, sample=True)
    style, noise = run["style"], run.noise("posterior", "style")
    assert_close(style.z[2], graph["flow"](4).sampled(noise.at("prior")).z[2])
    plain = style.distribution.loc + style.distribution.scale * noise.normal(2, like=style.z)
    assert_close(style.z[[0, 1, 3]], plain[[0, 1, 3]])
    assert_close(style.kl()[2], torch.zeros(()).double())
    (gradient,) = torch.autograd.grad(style.kl()[2], graph["flow"].weights["last"], allow_unused=True)
    assert gradient is None or not gradient.any()
    mean = run_of(graph, sample=False)["style"].z
    assert_close(mean[2], graph["flow"](1).z[0])
    assert_close(mean[0], style.distribution.loc[0])


def test_components_that_are_drawn_again_keep_the_prior(toys: Engine) -> None:
    graph = graph_of(toys, changed(post={**CONFIG["nodes"]["post"], "use": "posterior/random_subset"}))
    for sample in (True, False):
        post = run_of(graph, sample=sample)["post"].sampled(Noise.of(4, 9))
        expected = torch.stack([run_of(graph)["vamp"].distribution.log_prob(z) for z in post.z])
        assert_close(post.prior.log_prob(post.z), expected)


def gradients(graph: Any, cost: torch.Tensor) -> set[str]:
    """The nodes that receive anything."""
    graph.zero_grad(set_to_none=True)
    cost.backward()  # type: ignore[no-untyped-call]
    return {n for n in graph.wiring.order if any(p.grad is not None and p.grad.any() for p in graph[n].parameters())}


def test_gradients_reach_the_priors_from_the_kl_and_not_from_a_game(toys: Engine) -> None:
    graph = graph_of(toys)
    kl = graph.loss("kl")(run_of(graph, player="generator"), "generator").sum
    assert gradients(graph, kl) == {"flow", "enc_x", "enc_y", "post", "style", "vamp"}
    game = graph.loss("game")(run_of(graph, player="generator"), "generator").sum
    assert gradients(graph, game) == {"dec_x", "disc", "score"}
    (gradient,) = torch.autograd.grad(
        run_of(graph)["post"].prior.log_prob(torch.zeros(4, 3).double()).sum(), graph["post"].experts.linears[0].weight
    )
    assert gradient.abs().sum() > 0


def test_the_priors_are_the_generators(toys: Engine) -> None:
    graph = toys.build(CONFIG).graph
    assert {"flow", "vamp", "post", "style"} <= graph.owners("generator")
    assert not {"flow", "vamp"} & graph.owners("discriminator")
    assert graph.fitted_priors() == {}
    assert graph.trained_prior("post") == "vamp"
    assert graph.prior_of("style") is graph["flow"]
    names = [n for n, _ in graph.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names)) == len(list(graph.parameters()))


def test_generation_draws_from_them_and_files_keep_them(toys: Engine, tmp_path: Path) -> None:
    model = toys.build(CONFIG)
    before = {n: p.clone() for n, p in model.graph.named_parameters()}
    model.fit(DATA)
    after = dict(model.graph.named_parameters())
    for node in ("vamp_", "flow_"):
        assert any(not torch.equal(before[n], after[n]) for n in after if n.startswith(f"nodes.{node}"))
    found = model.generate(5, seed=3)
    run = next(model.runs([{}] * 5, seed=3))
    noise = run.noise("generate")
    z_post = model.graph["vamp"](5, model.graph["post"]).sampled(noise.at("post")).z
    z_style = model.graph["flow"](5).sampled(noise.at("style")).z
    with torch.no_grad():
        expected = model.graph["dec_x"](torch.cat([z_post, z_style], -1), {}).mean.data
    assert_close(torch.tensor(found["x"]), expected)
    model.save(tmp_path / "model")
    again = Engine(plugins=[Path(__file__).with_name("toys.py")]).load(tmp_path / "model")
    assert again.generate(5, seed=3) == found
    assert all(torch.equal(p, dict(again.graph.named_parameters())[n]) for n, p in after.items())


def test_a_prior_is_fitted_over_a_trained_one(toys: Engine) -> None:
    model = toys.build(changed(mixture={"use": "prior/mixture", "of": ["post", "style"], "with": {"components": 2}}))
    model.fit(DATA)
    assert bool(model.graph["mixture"].fitted)
    assert model.graph.fitted_priors() == {"mixture": ("post", "style")}
    trained = model.generate(4, prior="training")
    assert model.generate(4) == model.generate(4, prior="mixture") != trained
    with pytest.raises(FusionError, match="no fitted prior 'vamp'"):
        model.generate(4, prior="vamp")


def test_a_fitted_flow_serves_as_the_mixture_does(toys: Engine) -> None:
    options = {"layers": 2, "width": 4, "epochs": 2}
    model = toys.build(changed(fitted={"use": "prior/fitted_flow", "of": ["post", "style"], "with": options}))
    model.fit(DATA)
    assert bool(model.graph["fitted"].fitted)
    assert model.graph["fitted"].latent == 5
    assert model.generate(4) == model.generate(4, prior="fitted") != model.generate(4, prior="training")


def test_a_flow_without_of_is_noise_that_learns(toys: Engine) -> None:
    nodes = {"dec_x": {"use": "decoder/toys.mlp", "in": {"z": "noise"}, "out": "x"}, "dec_y": None}
    config = changed(
        noise={"use": "prior/flow", "with": {"latent": 2, "layers": 2, "width": 4}},
        **nodes,
        **dict.fromkeys(["flow", "enc_x", "enc_y", "post", "style", "vamp"]),
    )
    config["losses"] = {"game": config["losses"]["game"]}
    config["stages"] = [{"name": "only", "steps": 1, "losses": ["game"]}]
    graph = graph_of(toys, config)
    game = graph.loss("game")(run_of(graph, player="generator"), "generator").sum
    assert gradients(graph, game) >= {"noise", "dec_x"}


def test_an_interrupted_run_resumes_bit_for_bit(toys: Engine, tmp_path: Path) -> None:
    whole = toys.build(CONFIG).fit(DATA).graph.state_dict()
    again = toys.build(CONFIG).fit(DATA, directory=tmp_path).graph.state_dict()
    resumed = toys.build(CONFIG).fit(DATA, directory=tmp_path, resume=True).graph.state_dict()
    assert all(torch.equal(whole[n], again[n]) and torch.equal(whole[n], resumed[n]) for n in whole)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"flow": {"use": "prior/normal", "of": "style"}}, "nothing to fit and nothing to train"),
        ({"other": {"use": "prior/flow", "of": "post", "with": {"layers": 2}}}, "two priors train with 'post'"),
        ({"vamp": {"use": "prior/vamp", "with": {"latent": 3}}}, "is made of a posterior"),
        ({"vamp": {"use": "prior/vamp", "of": ["post", "style"]}}, "trains with one posterior"),
        ({"flow": {"use": "prior/flow", "of": "style", "with": {"latent": 4}}}, "not as wide"),
    ],
)
def test_wrong_wirings_are_refused_in_words(toys: Engine, nodes: dict[str, Any], words: str) -> None:
    with pytest.raises(BuildError, match=words):
        toys.build(changed(**nodes))


def test_a_prior_that_nobody_trains_is_refused(toys: Engine) -> None:
    config = CONFIG | {"players": {"generator": ["enc_*", "post", "style", "dec_*", "flow"]}}
    with pytest.raises(ConfigError, match="'vamp' belongs to no player"):
        toys.build(config)


def test_one_prior_does_not_replace_several() -> None:
    own = Normal(torch.zeros(2, 3, 1), torch.ones(2, 3, 1))
    prior = Posterior.of(Normal(torch.zeros(3, 1), torch.ones(3, 1)), Normal(torch.zeros(3, 1), torch.ones(3, 1)))
    with pytest.raises(FusionError, match="priors of their own"):
        under(Posterior.of(own, own), prior, torch.ones(3, dtype=torch.bool))


def test_a_closed_form_is_kept_where_torch_knows_it() -> None:
    q, own = Normal(torch.ones(3, 2), torch.full((3, 2), 0.5)), Normal(torch.zeros(3, 2), torch.ones(3, 2))
    p = Normal(torch.full((3, 2), 0.3), torch.full((3, 2), 2.0))
    found = under(Posterior.of(q, own), Posterior.of(p, p), torch.ones(3, dtype=torch.bool))
    assert_close(found.kl(), kl_divergence(q, p).sum(-1))


def test_without_such_a_node_nothing_changes(toys: Engine) -> None:
    graph = graph_of(toys, changed(flow=None, vamp=None))
    run = run_of(graph)
    assert graph.trained_prior("post") is None
    assert_close(run["style"].kl(), kl_divergence(run["style"].distribution, Normal(0.0, 1.0)).sum(-1))
    assert torch.equal(prior_draw(graph, "style", 4, Noise.of(4)).z, Noise.of(4).normal(2).double())
