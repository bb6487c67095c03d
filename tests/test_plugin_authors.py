"""The first mistakes of a plugin's author are named with the line to mend."""

from pathlib import Path

import pytest

from fusion_engine import BuildError, Engine

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
