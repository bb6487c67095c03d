"""Rules of ensembles that combine generators, on members whose samples tell who made them, and for which row."""

from collections.abc import Mapping
from typing import Any, cast

import torch

from fusion_engine.build import build, complete
from fusion_engine.config import read_config
from fusion_engine.model import FusionModel
from fusion_engine.plugins import Plugins
from fusion_engine.testing.observe import expect
from fusion_engine.testing.rules_build import check_no_global_random
from fusion_engine.testing.subject import Subject
from fusion_engine.testing.toy_networks import ToyDecoder, ToyEncoder, toy_registry

CLASSIFIES = "it has no generate, so it makes no samples"
PLACES = (0.0, 10.0)
"""Where the members' samples lie, to within 1; the condition moves them by 3."""
_VECTOR = {"use": "modality/toys.vector", "with": {"channels": 1}}
_CONFIG: dict[str, Any] = {
    "modalities": {"sample": _VECTOR, "shift": _VECTOR},
    "nodes": {
        "noise": {"use": "prior/toys.normal"},
        "read": {"use": "encoder/toys.linear", "in": "shift", "with": {"width": 1}},
        "make": {"use": "decoder/toys.linear", "in": {"z": "noise", "shift": "read"}, "out": "sample"},
        "look": {"use": "encoder/toys.linear", "in": "sample"},
        "score": {"use": "head/toys.score", "in": "look"},
    },
}


def generator(place: float) -> FusionModel:
    """Make a model: sample = place + 0.1 (z_1 + z_2) + 3 tanh(shift), with a discriminator that nothing trained."""
    plugins = Plugins(registry=toy_registry())
    config = complete(read_config(_CONFIG), plugins.registry)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        graph = build(config, plugins.registry)
    read, make = cast(ToyEncoder, graph["read"]).linear, cast(ToyDecoder, graph["make"]).linear
    with torch.no_grad():
        read.weight.fill_(1.0), read.bias.zero_()
        make.weight.copy_(torch.tensor([[0.1, 0.1, 3.0]])), make.bias.fill_(place)
    return FusionModel(config, graph, plugins)


def _classifies(subject: Subject) -> bool:
    return callable(getattr(subject.target, "predict_proba", None))


def _fitted(subject: Subject) -> Any:
    members = [(f"at_{place:g}", generator(place)) for place in PLACES]
    rows = [{"sample": [PLACES[i % 2] + 0.01 * i], "shift": [0.0]} for i in range(40)]
    return subject.construct(members).fit(rows)


def _samples(found: Any, n: int) -> torch.Tensor:
    expect(isinstance(found, Mapping), f"generate gives a {type(found).__name__}, not samples by modality")
    named = ", ".join(map(str, found)) or "nothing"
    expect(list(found) == ["sample"], f"generate gives {named}, and the members make 'sample'")
    count = len(found["sample"])
    expect(count == n, f"generate({n}) gives {count} samples")
    x = torch.tensor(found["sample"])
    expect(x.shape == (n, 1) and bool(x.isfinite().all()), "the samples are not what the members make")
    return x[:, 0]


def generates(subject: Subject) -> str | None:
    """``fit(rows)`` returns it; then ``generate(n)`` gives n raw samples of every modality that the members make."""
    if _classifies(subject):
        return CLASSIFIES
    known = callable(getattr(subject.target, "generate", None))
    expect(known, "it has neither predict_proba nor generate", "let it combine decisions, or samples")
    ensemble = _fitted(subject)
    expect(isinstance(ensemble, subject.target), "fit does not return the ensemble")
    for n in (1, 7):
        _samples(ensemble.generate(n), n)
    return None


def from_members(subject: Subject) -> str | None:
    """Every sample is one of some member, and none is made of several."""
    if _classifies(subject):
        return CLASSIFIES
    x = _samples(_fitted(subject).generate(40), 40)
    apart = (x[:, None] - torch.tensor(PLACES)).abs().amin(1)
    expect(bool((apart < 1).all()), "a sample is near no member's", "draw who makes each row; do not average")
    return None


def for_what_is_given(subject: Subject) -> str | None:
    """Sample i is made for row i of what is given, whoever makes it."""
    if _classifies(subject):
        return CLASSIFIES
    sign = torch.tensor([1.0, -1.0, -1.0, 1.0, -1.0] * 4)
    x = _samples(_fitted(subject).generate(20, given={"shift": (5 * sign)[:, None].tolist()}), 20)
    apart = (x[:, None] - torch.tensor(PLACES) - 3 * sign[:, None]).abs().amin(1)
    expect(bool((apart < 1).all()), "a sample does not belong to its given row", "shuffle the members, not the rows")
    return None


def repeatably(subject: Subject) -> str | None:
    """One seed gives the same samples, another others, and the global random states are neither read nor moved."""
    if _classifies(subject):
        return CLASSIFIES
    ensemble = _fitted(subject)

    def draw(seed: int) -> torch.Tensor:
        return _samples(ensemble.generate(9, seed=seed), 9)

    check_no_global_random(lambda: {"the samples": draw(0)})
    expect(not torch.equal(draw(0), draw(1)), "another seed gives the same samples", "pass the seed on to the members")
    return None
