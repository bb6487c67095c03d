"""The shape of what each node returns, found by running the graph on made-up samples."""

from typing import cast

import torch
from torch import Tensor

from fusion_engine.likelihoods import Likelihood
from fusion_engine.model import FusionModel
from fusion_engine.run import Run
from fusion_engine.values import Batch, Features, Posterior, Signal

ROWS = 3


@torch.no_grad()
def shapes(model: FusionModel) -> dict[str, str]:
    """Write down the shapes of every modality and node, such as ``tokens [b 16 64], pooled [b 128]``.

    b is the batch; a number in front of it counts samples or components. Ragged axes are as long as at most.
    """
    model.graph.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        signals = {name: modality.example(ROWS) for name, modality in model.modalities.items()}
    run = Run(model.graph, Batch.of(signals).to(model.device), sample=False)
    found = {name: _signal(signal) for name, signal in signals.items()}
    return found | {name: _node(run, name) for name in run.wiring.order}


def _node(run: Run, name: str) -> str:
    value, out = run[name], run.wiring.nodes[name].out
    before = f"{out} " if out else ""
    if isinstance(value, Features):
        return _features(value)
    if isinstance(value, Posterior):
        return "z " + _shape(value.z, value.z.ndim - 2)
    if isinstance(value, Likelihood):
        return before + _signal(value.mean, run.weights(name).ndim - 1)
    return before + _shape(cast(Tensor, value))


def _features(features: Features) -> str:
    if features.tokens.shape[1] == 1 and features.widths.tokens == features.widths.pooled:
        return _shape(features.pooled)
    return f"tokens {_shape(features.tokens)}, pooled {_shape(features.pooled)}"


def _signal(signal: Signal, lead: int = 0) -> str:
    return _shape(signal.data, lead) + ("" if signal.mask is None else ", mask")


def _shape(x: Tensor, lead: int = 0) -> str:
    """Write a shape with b in the place of the batch axis."""
    sizes = [str(n) for n in x.shape]
    return "[" + " ".join([*sizes[:lead], "b", *sizes[lead + 1 :]]) + "]"
