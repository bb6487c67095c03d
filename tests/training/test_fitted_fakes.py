"""Fakes drawn from a prior that is fitted to the latents when a stage begins: what generation will draw from."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from fusion_engine import Batch, BuildError, Engine, Run
from fusion_engine.run import fitted_draws
from fusion_engine.training import Callback

CONFIG: dict[str, Any] = yaml.safe_load("""
name: fitted
modalities: {x: {use: modality/toys.vector}}
nodes:
  enc: {use: encoder/toys.mlp, in: x}
  post: {use: posterior/gaussian, in: enc, with: {latent: 2}}
  style: {use: posterior/gaussian, in: enc, with: {latent: 1}}
  mixture: {use: prior/mixture, of: [post, style], with: {components: 2}}
  dec: {use: decoder/toys.mlp, in: {z: [post, style]}, out: x}
  disc: {use: encoder/toys.mlp, in: x}
  score: {use: head/score, in: disc}
losses:
  reconstruction: {use: loss/reconstruction}
  kl: {use: loss/kl}
  game: {use: loss/relativistic, with: {score: score, fakes: {fitted: 1, reconstruction: 1}}}
stages:
  - {name: pretrain, steps: 2, losses: [reconstruction, kl]}
  - {name: together, steps: 3, losses: [reconstruction, kl, game]}
train: {batch_size: 4, checkpoint_every: 1}
""")
DATA = {"x": [[1.0, 2.0], [0.5, -1.0], [0.0, 0.25], [-2.0, 1.0], [3.0, 3.0], [1.5, 0.0], [0.2, 0.1], [2.0, -1.0]]}


class Watch(Callback):
    """Notes whether the mixture is fitted, and its means, before each step; may end the run there."""

    def __init__(self, kill_at: int | None = None) -> None:
        self.kill_at, self.fitted, self.means = kill_at, [], []

    def on_step_end(self, trainer: Any, metrics: Any) -> None:
        mixture = trainer.graph["mixture"]
        self.fitted.append(bool(mixture.fitted))
        self.means.append(mixture.means.clone())
        if trainer.progress.step == self.kill_at:
            raise RuntimeError("killed")


def test_the_prior_is_fitted_when_a_stage_that_draws_from_it_begins(toys: Engine) -> None:
    watch = Watch()
    model = toys.build(CONFIG).fit(DATA, callbacks=[watch])
    assert watch.fitted == [False, False, True, True, True]
    assert torch.equal(watch.means[2], watch.means[4])  # kept during the stage
    assert not torch.equal(watch.means[4], model.graph["mixture"].means)  # and fitted anew at the end


def test_a_resumed_stage_goes_on_with_the_prior_that_it_began_with(toys: Engine, tmp_path: Path) -> None:
    whole = toys.build(CONFIG).fit(DATA)
    with pytest.raises(RuntimeError, match="killed"):
        toys.build(CONFIG).fit(DATA, directory=tmp_path, callbacks=[Watch(kill_at=5)])
    resumed = toys.build(CONFIG).fit(DATA, directory=tmp_path, resume=True)
    one, other = whole.graph.state_dict(), resumed.graph.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_fitted_fake_is_decoded_from_one_draw_for_all_posteriors(toys: Engine) -> None:
    model = toys.build(CONFIG).fit(DATA)
    batch = Batch.of({"x": model.modalities["x"].example(5)})
    run = Run(model.graph, batch, sample=True)
    view = run.generated("fitted")
    draws = fitted_draws(model.graph, ["mixture"], 5, run.noise("start", "fitted"))
    for name in ("post", "style"):
        assert torch.equal(view[name].z, draws[name].z)
    z = torch.cat([draws["post"].z, draws["style"].z], -1)
    assert torch.equal(run.fake("fitted").signal("x").data, model.graph["dec"](z, {}).mean.data)


def test_without_a_fitted_prior_there_is_nothing_to_draw_from(toys: Engine) -> None:
    config = copy.deepcopy(CONFIG)
    del config["nodes"]["mixture"]
    with pytest.raises(BuildError, match="no prior that is fitted"):
        toys.build(config)
