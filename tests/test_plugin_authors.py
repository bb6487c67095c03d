"""The first mistakes of a plugin's author are named with the line to mend."""

from pathlib import Path

import pytest
import torch

from fusion_engine import BuildError, ConfigError, ContractError, Encoder, Engine, Features, Fusion, Loss, Term
from fusion_engine.testing import ToyVector, check_component, toy_graph

LOSS = '''
from fusion_engine import Loss, Term, hookimpl


class Mine(Loss):
    """A loss with a mistake."""

    def __init__(self, graph, *, how: str = "term"):
        super().__init__(graph, ["generator"])
        self.how = how
        if how == "constructor":
            graph.nothing_of_that_name

    def rows(self, run, player):
        rows = super().rows(run, player)
        return rows.float() if self.how == "rows" else rows

    def forward(self, run, player):
        values = run["enc"].pooled.sum(1)
        if self.how == "tensor":
            return values.mean()
        if self.how == "shape":
            values = values + values.new_zeros(17)  # the line to mend
        if self.how == "node":
            run["enk"]
        return Term.of(values, super().rows(run, player))


@hookimpl
def register_components(registry):
    registry.loss("mine", Mine)
'''


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        ("tensor", ["returns no term", "loss 'mine'", "Term.of(values, rows)", "Tensor"]),
        ("rows", ["its rows are no mask", "loss 'mine'", "Bool [3]", "torch.float32"]),
        ("shape", ["fails on a probe batch: RuntimeError", "loss 'mine'", "my_loss.py:23, in forward"]),
        ("node", ["no node 'enk'", "loss 'mine'", "'enc'"]),
        ("constructor", ["cannot be constructed: AttributeError", "loss 'mine'", "my_loss.py:12, in __init__"]),
    ],
)
def test_a_mistake_in_a_loss_is_named_with_its_line(tmp_path: Path, how: str, parts: list[str]) -> None:
    file = tmp_path / "my_loss.py"
    file.write_text(LOSS, encoding="utf-8")
    config = {
        "modalities": {"image": {"use": "modality/image"}},
        "nodes": {"enc": {"use": "encoder/image.conv", "in": "image"}},
        "losses": {"mine": {"use": "loss/mine", "with": {"how": how}}},
    }
    with pytest.raises(Exception, match="mine") as error:
        Engine(plugins=[file]).build(config)
    assert isinstance(error.value, BuildError) or how == "node"
    for part in parts:
        assert part in str(error.value)


class NoSuper(Fusion):
    """A fusion that forgot its base class."""

    def __init__(self, inputs, *, width: int = 4):
        self.linears = torch.nn.ModuleList(torch.nn.Linear(w.pooled, width) for w in inputs.values())

    def forward(self, features, present):
        return next(iter(features.values()))


class HalfSuper(Fusion):
    """A fusion that called another base class."""

    def __init__(self, inputs, *, width: int = 4):
        torch.nn.Module.__init__(self)
        self.linear = torch.nn.Linear(3, width)

    def forward(self, features, present):
        return next(iter(features.values()))


class Raises(Fusion):
    """A fusion with a mistake in a line of its own."""

    def __init__(self, inputs, *, width: int = 4):
        super().__init__(inputs, width)
        self.linear = torch.nn.Linear(3, width)

    def forward(self, features, present):
        return Features.of_pooled(self.linear(torch.zeros(len(present), 5)))


@pytest.mark.parametrize("fusion", [NoSuper, HalfSuper])
def test_a_forgotten_super_is_named(fusion: type[Fusion]) -> None:
    with pytest.raises(ContractError, match=r"call super\(\)"):
        check_component(fusion)


def test_what_a_component_raises_is_told_with_its_line() -> None:
    with pytest.raises(ContractError, match=r"RuntimeError[\s\S]*test_plugin_authors\.py:\d+, in forward"):
        check_component(Raises, only=["batch-of-one"])


class Words(ToyVector):
    """A modality whose prepare returns a tensor, or whose fit returns nothing."""

    broken = "prepare"

    def prepare(self, raw):
        signal = super().prepare(raw)
        return signal.data if self.broken == "prepare" else signal

    def fit(self, samples):
        return None if self.broken == "fit" else super().fit(samples)


@pytest.mark.parametrize(("broken", "rule"), [("prepare", "prepare-restore"), ("fit", "fit")])
def test_a_modality_that_returns_something_else_is_told_what_to_return(broken: str, rule: str, monkeypatch) -> None:
    monkeypatch.setattr(Words, "broken", broken)
    with pytest.raises(ContractError, match=f"{broken} returns a (Tensor|NoneType)") as error:
        check_component(Words, only=[rule])
    assert error.value.rule == rule


class Align(Loss):
    """The distance of two nodes that the config names."""

    def __init__(self, graph, *, a: str, b: str):
        super().__init__(graph, ["generator"])
        self.a, self.b = a, b

    def rows(self, run, player):
        return run.present(self.a) & run.present(self.b)

    def forward(self, run, player):
        distance = (run.features(self.a).pooled - run.features(self.b).pooled).pow(2).sum(-1)
        return Term.of(distance, self.rows(run, player))


def test_a_loss_that_names_nodes_is_told_the_nodes_of_the_kit() -> None:
    nodes = r"give config=[\s\S]*the nodes of the kit's graph are [\s\S]*judge_vector"
    with pytest.raises(ConfigError, match=nodes) as error:
        check_component(Align)
    assert "'a': ..., 'b': ..." in str(error.value)
    with pytest.raises(ContractError, match=nodes) as broken:
        check_component(Align, config={"a": "encode_vektor", "b": "judge_vector"})
    assert "did you mean 'encode_vector'" in str(broken.value)
    assert check_component(Align, config={"a": "encode_vector", "b": "judge_vector"}).kind == "loss"


def test_contributing_names_every_node_of_the_kit() -> None:
    text = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert [name for name in toy_graph().wiring.nodes if f"`{name}`" not in text] == []


class Undecoded(ToyVector):
    """A modality that nothing decodes."""

    decoder = None


class Flat(Encoder):
    """An encoder of it."""

    def __init__(self, modality: Undecoded, *, width: int = 3):
        super().__init__(modality, width)
        self.linear = torch.nn.Linear(modality.size, width)

    def encode(self, x, signal):
        return Features.of_pooled(self.linear(x.flatten(1)))


def test_an_encoder_is_not_blamed_for_a_modality_without_decoder() -> None:
    report = check_component(Flat, modality=Undecoded())
    assert "no decoder" in report.remarks["relaxed-input"]


class Unhinted(Fusion):
    """A fusion whose config has no type."""

    def __init__(self, inputs, *, width=4):
        super().__init__(inputs, width)

    def forward(self, features, present):
        return next(iter(features.values()))


def test_a_key_without_a_type_is_told_once() -> None:
    with pytest.raises(ContractError, match="'width' has no type hint") as error:
        check_component(Unhinted)
    assert str(error.value).count("fix:") == str(error.value).count("where:") == 1
