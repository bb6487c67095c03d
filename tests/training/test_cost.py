"""What is missing is not computed: counted in floating-point operations, not in seconds."""

from typing import Any

import pytest
import torch
from scenario import GAN, MODALITIES, VAE, build, config, table
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from fusion_engine.data import Batches, Prepared, Table
from fusion_engine.training import Trainer

WIDTH = 64


class Counter(TorchDispatchMode):
    """Counts as torch's FlopCounterMode does, which stumbles over gradients within a forward: it hooks into modules."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.count += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def wide() -> dict[str, Any]:
    """The scenario with wide networks, so that encoders and decoders are what costs."""
    given = config([{"name": "only", "losses": VAE + GAN, "epochs": 1}], batch_size=64)
    for name, node in given["nodes"].items():
        if name.startswith(("enc_", "dec_", "disc_x", "disc_y")):
            node["with"] = {**node.get("with", {}), "width": WIDTH}
    return given


def operations(data: dict[str, Any]) -> int:
    """Of one step: both turns, forward and backward."""
    model = build(wide())
    rows = model.prepare(data)
    trainer = Trainer(model.graph, model.config, rows)
    batches = next(iter(trainer.batches.epoch(0)))
    trainer.turns = trainer._turns(model.config.stages[0])
    with Counter() as counter:
        trainer.step(batches)
    return counter.count


def test_a_step_with_half_of_the_cells_missing_costs_clearly_less() -> None:
    whole = operations(table(64, missing=0.0))
    half = table(64, missing=0.5)
    gaps = sum(cell is None for m in MODALITIES for cell in half[m]) / (2 * 64)
    assert 0.4 < gaps < 0.6
    share = operations(half) / whole
    assert share < 0.75, share
    assert share > 0.4, "something that is there was not computed"


def test_the_whole_step_is_what_counting_by_hand_gives() -> None:
    """An encoder's forward on b rows: two operations a weight and row; only what is present is encoded."""
    model = build(wide())
    rows = Prepared(Table(table(64)), model.prepare(table(64)).modalities)
    (batch,) = next(iter(Batches(rows, 64, seed=0).epoch(0)))
    run = next(iter(model.runs(rows)))
    with torch.no_grad(), Counter() as counter:
        _ = run["enc_x"]
    present = int(batch.present["x"].sum())
    assert counter.count == 2 * present * (3 * WIDTH + WIDTH * WIDTH)


@pytest.mark.parametrize("missing", [0.0, 0.5])
def test_a_score_of_nothing_costs_nothing(missing: float) -> None:
    """With one modality missing everywhere, neither its encoder nor its decoder runs."""
    data = table(64, missing=missing)
    model = build(wide())
    prepared = model.prepare(data)
    gone = Prepared([{"x": row["x"]} for row in prepared.table], prepared.modalities)
    run = next(iter(model.runs(gone)))
    likelihood, rows = run.likelihood("dec_y")
    assert likelihood is None
    assert not rows.any()
    with Counter() as counter:
        _ = run["enc_y"]
    assert counter.count == 0
