"""Whole samples are reconstructed from samples with a hidden part, and the parts are what the docstring says."""

import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from fusion_engine import Batch, ConfigError, Engine, Features, Graph, Run, Signal
from fusion_engine_generative.losses.masked_reconstruction import MaskedReconstruction, span

VECTOR = {"use": "modality/toys.vector", "with": {"size": 5}}
RAGGED = {"use": "modality/toys.ragged", "with": {"length": 6}}


@pytest.fixture(scope="module")
def graph(toys: Engine) -> Graph:
    options: dict[str, Any] = {"posterior": "poe", "latent": 2, "components": 0}
    return toys.recipe("vae", {"x": VECTOR, "y": RAGGED}, **options).graph.double()


def batch_of(graph: Graph, b: int) -> Batch:
    signals = {
        m: modality.example(b).map(lambda t: t.double() if t.is_floating_point() else t)
        for m, modality in graph.modalities.items()
    }
    return Batch.of(signals, {"x": torch.arange(b) != 1})


def by_hand(draw: Tensor, n: int) -> tuple[int, int]:
    """Where the hidden span of one row begins and ends, of n places."""
    share = 0.2 + 0.4 * float(draw[0])
    count = min(max(round(share * n), 1), n - 1)
    start = math.floor(float(draw[1]) * (n - count + 1))
    return start, start + count


@torch.no_grad()
def test_every_row_is_reconstructed_whole_from_what_is_left_of_it(graph: Graph) -> None:
    b = 6
    batch, loss = batch_of(graph, b), MaskedReconstruction(graph, least=0.2, most=0.6, balance=False)
    run = Run(graph.eval(), batch)
    term = loss(run, "generator")
    draws = {m: run.noise("masked_reconstruction", m).uniform(3) for m in graph.modalities}
    modules, total = cast(Any, graph), 0.0
    for i in range(b):
        x, y, mask = batch.signals["x"].data[i].clone(), batch.signals["y"].data[i], batch.signals["y"].mask
        n = int(mask[i].sum())  # type: ignore[index]
        start, stop = by_hand(draws["x"][i], 5)
        x[start:stop] = 0
        start, stop = by_hand(draws["y"][i], n)
        left = torch.cat([y[:start], y[stop:n]])[None]
        seen = {
            "enc_x": modules["enc_x"](Signal(x[None])),
            "enc_y": modules["enc_y"](Signal(left, torch.ones(1, left.shape[1], dtype=torch.bool))),
        }
        z = modules["post"](cast(dict[str, Features], seen), torch.tensor([[i != 1, True]])).z
        row = -modules["dec_y"](z, {}).log_prob(Signal(y[None, :n], torch.ones(1, n, dtype=torch.bool)))
        if i != 1:
            row = row - modules["dec_x"](z, {}).log_prob(Signal(batch.signals["x"].data[i : i + 1]))
        total += float(row)
    assert int(term.count) == b
    torch.testing.assert_close(float(term.sum), total, rtol=1e-6, atol=1e-6)


def test_parts_depend_on_the_row_and_nothing_else(graph: Graph) -> None:
    batch = batch_of(graph, 6)
    loss, rows = MaskedReconstruction(graph, balance=False), torch.tensor([4, 0])
    with torch.no_grad():
        every = [float(loss(Run(graph.eval(), batch.take(torch.tensor([i]))), "generator").sum) for i in range(6)]
        part = loss(Run(graph.eval(), batch.take(rows)), "generator").sum
    assert float(part) == pytest.approx(every[4] + every[0])


def test_it_teaches_the_generator_alone(engine: Engine) -> None:
    image = {
        "use": "modality/image",
        "with": {"shape": [1, 8, 8]},
        "encoder": {"use": "encoder/image.conv", "with": {"channels": 4}},
        "decoder": {"use": "decoder/image.conv", "with": {"channels": 4}},
    }
    model = engine.recipe("vae_gan", {"image": image}, posterior="gaussian", latent=2, components=0)
    loss = MaskedReconstruction(model.graph)
    batch = Batch.of({"image": model.modalities["image"].example(8)})
    loss(Run(model.graph, batch, player="generator", sample=True), "generator").sum.backward()
    taught = {
        n
        for n in model.graph.wiring.nodes
        if any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.graph[n].parameters())
    }
    assert taught == {"enc_image", "post", "dec_image"}
    assert loss.players == {"generator"}
    hidden = loss._hidden(Run(model.graph, batch), "image", model.modalities["image"]).data
    for row in hidden[:, 0] == 0:
        rows, columns = row.any(1).nonzero()[:, 0], row.any(0).nonzero()[:, 0]
        whole = row[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert bool(whole.all())
        assert 0.05 < row.float().mean() < 0.65


def test_spans_lie_within_and_have_their_share() -> None:
    generator = torch.Generator().manual_seed(0)
    share, place = torch.rand(200, generator=generator), torch.rand(200, generator=generator)
    n = torch.randint(1, 9, (200,), generator=generator)
    found = span(n, share, place, 9)
    counts = found.sum(1)
    assert bool((counts[n > 1] >= 1).all())
    assert bool((counts <= (n - 1)).all())
    assert bool((found.float() * torch.arange(9) < n[:, None]).all())
    assert bool(((counts - share * n).abs()[n > 1] <= 1.0).all())
    assert bool(((found[:, 1:] & ~found[:, :-1]).sum(1) + found[:, 0] <= 1).all())


def test_the_least_share_does_not_exceed_the_most(graph: Graph) -> None:
    with pytest.raises(ConfigError, match="`least` exceeds"):
        MaskedReconstruction(graph, least=0.6, most=0.5)
