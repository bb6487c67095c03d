"""Stages, turns, schedules, averages, interrupts and checkpoints, each against what it is meant to be, by hand."""

import contextlib
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from scenario import GAN, PLUGIN, VAE, Recorder, build, config, table
from torch import Tensor

from fusion_engine import ConfigError, Engine, FusionModel, TrainingError
from fusion_engine.training import Callback, Trainer, turns
from fusion_engine.training.checkpoint import read_checkpoint, write_checkpoint

ALL = VAE + GAN


class Do(Callback):
    """Calls functions at some of the moments."""

    def __init__(
        self,
        stage_start: Callable[[Trainer], None] = lambda trainer: None,
        step_end: Callable[[Trainer], None] = lambda trainer: None,
        stage_end: Callable[[Trainer], None] = lambda trainer: None,
    ) -> None:
        self.functions = stage_start, step_end, stage_end

    def on_stage_start(self, trainer: Trainer, stage: Any, steps: int) -> None:
        self.functions[0](trainer)

    def on_step_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.functions[1](trainer)

    def on_stage_end(self, trainer: Trainer, stage: Any) -> None:
        self.functions[2](trainer)


def stage(name: str = "only", losses: list[str] = ALL, **options: Any) -> dict[str, Any]:
    return {"name": name, "losses": losses, **options}


def fit(given: dict[str, Any], *callbacks: Callback, data: Any = None, **options: Any) -> tuple[FusionModel, Recorder]:
    """Build and train on the CPU."""
    model, recorder = build(given), Recorder()
    fabric = Fabric(accelerator="cpu", devices=1, precision=given["train"].get("precision", "32-true"))
    model.fit(data or table(), callbacks=[recorder, *callbacks], fabric=fabric, **options)
    return model, recorder


def weights(model: FusionModel | Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.graph.state_dict().items()}


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def adam_steps(trainer: Trainer) -> dict[str, set[int]]:
    """How often each player's optimizer has moved each of its parameters."""
    return {t.player: {int(s["step"]) for s in t.optimizer.state.values()} for t in trainer.turns}


# Stages


def test_every_stage_has_fresh_optimizers() -> None:
    begun: list[dict[str, set[int]]] = []
    ended: list[dict[str, set[int]]] = []
    watch = Do(lambda t: begun.append(adam_steps(t)), stage_end=lambda t: ended.append(adam_steps(t)))
    fit(config([stage("one", VAE, steps=3), stage("two", ALL, steps=4)]), watch)
    assert begun == [{"generator": set()}, {"discriminator": set(), "generator": set()}]
    assert ended == [{"generator": {3}}, {"discriminator": {4}, "generator": {4}}]


@pytest.mark.parametrize(
    ("learn", "moving"),
    [
        (["dec_*"], {"dec_x", "dec_y"}),
        (["disc_*", "score"], {"disc_x", "disc_y", "disc_all", "score"}),
        (["enc_x", "p*t", "disc_y"], {"enc_x", "post", "disc_y"}),
    ],
)
def test_only_what_learns_moves(learn: list[str], moving: set[str]) -> None:
    """Weights and batch statistics alike: a frozen node is the same to the last bit."""
    given = config([stage(steps=6, learn=learn)], norm=True, ema_half_life=0.0)
    before: dict[str, Tensor] = {}
    model, _ = fit(given, Do(lambda t: before.update(weights(t))))
    moved = {name.split(".")[1][:-1] for name, value in weights(model).items() if not torch.equal(value, before[name])}
    assert moved == moving


def test_a_frozen_node_uses_its_running_statistics() -> None:
    modes: list[tuple[bool, bool]] = []
    given = config([stage(steps=2, losses=VAE, learn=["dec_*"])], norm=True)

    def note(t: Trainer) -> None:
        modes.append((t.graph["enc_x"].training, t.graph["dec_x"].training))

    fit(given, Do(note, note))
    assert modes == [(False, True)] * 3


def test_a_stage_that_has_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match="stage 'only'"):
        fit(config([stage(losses=VAE, steps=2, learn=["disc_*"])]))


def test_steps_and_epochs_and_the_means_of_each_epoch() -> None:
    """83 rows in steps of 16 are 5 steps an epoch; the last three rows wait."""
    model, recorder = fit(config([stage("one", VAE, epochs=2), stage("two", VAE, steps=7)]))
    history = model.progress.history
    assert [(h["stage"], h["epoch"], h["step"]) for h in history] == [
        ("one", 0, 5),
        ("one", 1, 10),
        ("two", 0, 15),
        ("two", 1, 17),
    ]
    assert len(recorder.metrics) == 17
    spans = [(0, 5), (5, 10), (10, 15), (15, 17)]
    for entry, (start, end) in zip(history, spans, strict=True):
        for name in ("generator/reconstruction", "generator/kl"):
            assert entry[name] == pytest.approx(np.mean([m[name] for m in recorder.metrics[start:end]]), rel=1e-12)


@pytest.fixture(scope="module")
def curve() -> list[float]:
    """What the metric would be in every epoch, were the stage not ended."""
    history = fit(config([stage(losses=VAE, epochs=8)]))[0].progress.history
    return [float(h["generator/reconstruction"]) for h in history]


@pytest.mark.parametrize(("delta", "patience"), [(1e9, 2), (0.0, 1), (0.0, 2), (0.2, 1), (0.0, 9)])
def test_until_ends_a_stage_that_no_longer_improves(curve: list[float], delta: float, patience: int) -> None:
    best, waited, expected = math.inf, 0, 0
    for value in curve:
        expected += 1
        best, waited = (value, 0) if value < best - delta else (best, waited + 1)
        if waited == patience:
            break
    until = {"metric": "reconstruction", "patience": patience, "delta": delta}
    stages = [stage(losses=VAE, epochs=8, until=until)]
    history = fit(config(stages))[0].progress.history
    assert [h["generator/reconstruction"] for h in history] == curve[:expected]


def test_the_next_stage_begins_where_one_was_ended() -> None:
    until = {"metric": "generator/kl", "patience": 1, "delta": 1e9}
    model, _ = fit(config([stage("one", VAE, epochs=5, until=until), stage("two", VAE, epochs=2)]))
    assert [(h["stage"], h["step"]) for h in model.progress.history] == [
        ("one", 5),
        ("one", 10),
        ("two", 15),
        ("two", 20),
    ]


def test_until_a_metric_that_no_player_logs_is_refused() -> None:
    with pytest.raises(TrainingError, match="generator/reconstruction, generator/kl"):
        fit(config([stage(losses=VAE, epochs=2, until={"metric": "discriminator/kl"})]))


# Turns


def test_turns_repeat_with_fresh_noise_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[tuple[str, int]] = []
    original = turns.take_turn

    def spy(graph: Any, turn: Any, batches: Any, noise: Any, *args: Any, **options: Any) -> Any:
        taken.append((turn.player, noise.key))
        return original(graph, turn, batches, noise, *args, **options)

    monkeypatch.setattr("fusion_engine.training.trainer.take_turn", spy)
    ended: list[dict[str, set[int]]] = []
    watch = Do(stage_end=lambda t: ended.append(adam_steps(t)))
    fit(config([stage(steps=3)], turns={"discriminator": 3, "generator": 2}), watch)
    assert [player for player, _ in taken] == (["discriminator"] * 3 + ["generator"] * 2) * 3
    assert len({key for _, key in taken}) == len(taken)
    assert ended == [{"discriminator": {9}, "generator": {6}}]


def gradients(t: Trainer, found: list[Tensor]) -> None:
    """Note every gradient that the optimizer sees, as one vector."""

    def note(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        found.append(torch.cat([p.grad.flatten() for p in parameters if p.grad is not None]).clone())

    for turn in t.turns:
        turn.optimizer.register_step_pre_hook(note)


def test_gradients_are_clipped_by_their_norm() -> None:
    clipped: list[Tensor] = []
    free: list[Tensor] = []
    stages = [stage(losses=VAE, steps=4)]
    fit(config(stages, clip=0.1), Do(lambda t: gradients(t, clipped)))
    fit(config(stages, clip=None), Do(lambda t: gradients(t, free)))
    assert all(g.norm() <= 0.1 + 1e-6 for g in clipped)
    assert free[0].norm() > 1
    torch.testing.assert_close(clipped[0], 0.1 * free[0] / free[0].norm(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rates_follow_the_schedule(schedule: str) -> None:
    """Over the whole run, not each stage: lr (0.1 + 0.9 (1 + cos(pi s / S)) / 2)."""
    rates: dict[str, list[float]] = {"discriminator": [], "generator": []}

    def note(t: Trainer) -> None:
        for turn in t.turns:
            rates[turn.player].append(turn.optimizer.param_groups[0]["lr"])

    fit(config([stage("one", VAE, steps=3), stage("two", ALL, steps=5)], schedule=schedule), Do(step_end=note))
    shares = [0.1 + 0.45 * (1 + math.cos(math.pi * s / 8)) if schedule == "cosine" else 1.0 for s in range(8)]
    assert rates["generator"] == pytest.approx([4e-3 * share for share in shares], rel=1e-12)
    assert rates["discriminator"] == pytest.approx([2e-3 * share for share in shares[3:]], rel=1e-12)


def test_a_turn_keeps_nothing_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Micro-batches save memory only if each run is given up when it is done."""
    runs: list[Any] = []
    original = turns._accumulate

    def spy(run: Any, *args: Any) -> Any:
        assert not any(earlier._memory for earlier in runs)
        runs.append(run)
        return original(run, *args)

    monkeypatch.setattr(turns, "_accumulate", spy)
    fit(config([stage(steps=2)], accumulate=4))
    assert len(runs) == 2 * 2 * 4


# The average


def test_the_average_is_the_formula_by_hand() -> None:
    """beta = 0.5^(16 / h), h = min(10, 0.05 rows seen): it ramps for 12 steps; buffers are copied, no discriminator."""
    expected: dict[str, Tensor] = {}
    checked: list[float] = []

    def begin(t: Trainer) -> None:
        expected.update({n: v.double() for n, v in weights(t).items()})

    def follow(t: Trainer) -> None:
        half_life = min(10.0, 0.05 * 16 * t.progress.step)
        beta = 0.5 ** (16 / half_life)
        checked.append(beta)
        for name, value in weights(t).items():
            is_buffer = "running_" in name or "num_batches" in name
            expected[name] = value if is_buffer else beta * expected[name] + (1 - beta) * value.double()
        assert t.average is not None
        for name, value in t.average.values.items():
            node, key = name.split("/")
            torch.testing.assert_close(value.double(), expected[f"nodes.{node}_.{key}"].double(), rtol=0, atol=1e-6)
        assert {name.split("/")[0] for name in t.average.values} == {"enc_x", "enc_y", "post", "dec_x", "dec_y"}

    model, recorder = fit(config([stage(steps=20)], norm=True, ema_half_life=10.0), Do(begin, follow))
    assert checked[0] < 1e-5
    assert checked[-8:] == [0.5**1.6] * 8
    for name, value in weights(model).items():
        if name.startswith(("nodes.disc", "nodes.score")):
            assert torch.equal(value, recorder.live[name])
        else:
            torch.testing.assert_close(value.double(), expected[name].double(), rtol=0, atol=1e-6)


# NaN


def poisoned() -> dict[str, Any]:
    data = table()
    row = next(i for i, cell in enumerate(data["y"]) if cell is not None)
    data["y"][row] = [math.inf, 0.0]
    return data


def test_bad_data_stops_the_step_and_is_named() -> None:
    recorder, start = Recorder(), dict[str, Tensor]()
    model = build(config([stage(losses=VAE, epochs=2)]))
    callbacks = [recorder, Do(lambda t: start.update(weights(t)))]
    with pytest.raises(TrainingError, match="generator's loss is not finite: reconstruction") as caught:
        model.fit(poisoned(), callbacks=callbacks)
    assert caught.value.where is not None
    assert "'y', the data of the modality" in caught.value.where
    assert recorder.metrics, "the poison must not come in the first step for this to mean something"
    assert same(weights(model), recorder.live)
    assert not same(weights(model), start)


def test_weights_that_run_away_are_stopped_and_the_node_is_named() -> None:
    recorder = Recorder()
    given = config([stage(losses=VAE, steps=9)], clip=None, optimizer={"generator": {"lr": 1e30}})
    model = build(given)
    with pytest.raises(TrainingError, match="'post'"):
        model.fit(table(), callbacks=[recorder])
    assert len(recorder.metrics) == 1
    assert same(weights(model), recorder.live)


def spoil(node: str) -> Callback:
    """Put NaN into a node's weights behind the second step."""

    def act(t: Trainer) -> None:
        if t.progress.step == 2:
            next(iter(t.graph.parameters_of([node]))).data.fill_(math.nan)

    return Do(step_end=act)


@pytest.mark.parametrize("node", ["enc_x", "dec_y", "disc_x", "disc_all", "score"])
def test_the_first_bad_node_is_named_also_within_views(node: str) -> None:
    """In the discriminator's turn decoders are at work in the views of generated data alone."""
    with pytest.raises(TrainingError, match=f"first bad node: '{node}'") as caught:
        fit(config([stage(steps=9)]), spoil(node))
    assert str(caught.value).startswith("step 2: the discriminator's loss is not finite: adversarial")


def test_a_bad_gradient_of_a_finite_loss_is_stopped_and_named() -> None:
    def hook(t: Trainer) -> None:
        next(iter(t.graph.parameters_of(["dec_y"]))).register_hook(lambda gradient: gradient * math.nan)

    recorder, start = Recorder(), dict[str, Tensor]()
    model = build(config([stage(losses=VAE, steps=9)]))
    callbacks = [recorder, Do(hook), Do(lambda t: start.update(weights(t)))]
    with pytest.raises(TrainingError, match=r"(?s)a gradient is not finite.*'dec_y'"):
        model.fit(table(), callbacks=callbacks)
    assert same(weights(model), start)


# Interrupts


def interrupt(steps: int) -> Callback:
    def act(t: Trainer) -> None:
        if t.progress.step == steps:
            raise KeyboardInterrupt

    return Do(step_end=act)


def test_an_interrupt_leaves_a_usable_model(tmp_path: Path) -> None:
    model, recorder = fit(config([stage(epochs=9)], ema_half_life=30.0), interrupt(7))
    assert model.metrics["interrupted"] is True
    assert model.progress.step == 7
    assert recorder.trainer.average is not None
    for name, value in recorder.trainer.average.values.items():
        node, key = name.split("/")
        assert torch.equal(model.graph[node].state_dict()[key], value)
    assert not same(weights(model), recorder.live)
    made = model.generate(4)
    assert np.isfinite(made["x"]).all()
    assert np.shape(made["x"]) == (4, 3)
    model.save(tmp_path / "saved")
    assert Engine(plugins=[PLUGIN]).load(tmp_path / "saved").generate(4) == made


def test_training_leaves_the_random_state_of_its_user_alone() -> None:
    for end in (interrupt(4), interrupt(99), spoil("dec_x")):
        states = torch.get_rng_state(), repr(np.random.get_state())
        with contextlib.suppress(TrainingError):
            fit(config([stage(steps=5)], dropout=0.2), end)
        assert torch.equal(torch.get_rng_state(), states[0])
        assert repr(np.random.get_state()) == states[1]


def test_training_does_not_depend_on_the_random_state_of_its_user() -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(weights(fit(config([stage(steps=4)], dropout=0.2))[0]))
    assert same(*found)
    assert not same(found[0], weights(fit(config([stage(steps=4)], dropout=0.2, seed=4))[0]))


def test_a_callback_may_evaluate_the_model_while_it_trains() -> None:
    """Evaluation switches dropout off and batch norm to its running statistics; the next step switches them on."""
    given = config([stage(losses=VAE, steps=12)], dropout=0.4, norm=True)
    model, recorder = build(given), Recorder()

    class Evaluate(Callback):
        def on_epoch_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
            model.generate(2)

    model.fit(table(), callbacks=[recorder, Evaluate()])
    assert same(weights(model), weights(fit(given)[0]))


# Checkpoints


def test_resuming_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    given = config([stage(steps=3)])
    assert same(weights(fit(given, directory=tmp_path, resume=True)[0]), weights(fit(given)[0]))


# From Python 3.12 on a fork of a process with threads warns; torch has threads, but its workers never enter them.
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize(
    ("change", "refused"),
    [
        ({"seed": 5}, True),
        ({"batch_size": 8}, True),
        ({"ema_half_life": 0.0}, True),
        ({"accumulate": 2}, False),
        ({"workers": 1}, False),
        ({"checkpoint_every": 3}, False),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path, change: dict[str, Any], refused: bool) -> None:
    stages = [stage(losses=VAE, steps=6)]
    fit(config(stages, checkpoint_every=2), interrupt(5), directory=tmp_path)
    changed = config(stages, **{"checkpoint_every": 2, **change})
    if not refused:
        assert fit(changed, directory=tmp_path, resume=True)[0].progress.step == 6
        return
    with pytest.raises(TrainingError, match="belongs to another config"):
        fit(changed, directory=tmp_path, resume=True)


def test_a_checkpoint_made_with_other_data_is_refused(tmp_path: Path) -> None:
    given = config([stage(losses=VAE, steps=6)], checkpoint_every=2)
    fit(given, interrupt(5), directory=tmp_path)
    with pytest.raises(TrainingError, match=r"(?s)83 rows.*90 rows"):
        fit(given, directory=tmp_path, resume=True, data=table(90))


def test_a_checkpoint_is_read_without_running_code(tmp_path: Path) -> None:
    """Tensors and plain containers pass; an object of any class is refused before it is made."""
    fit(config([stage(steps=2)], checkpoint_every=1), directory=tmp_path)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["progress"]["step"] == 2
    torch.save({"format": 1, "graph": Recorder()}, tmp_path / "object.pt")
    with pytest.raises(TrainingError, match="is not a checkpoint of ours"):
        read_checkpoint(tmp_path / "object.pt")
    torch.save({"format": 99}, tmp_path / "format.pt")
    with pytest.raises(TrainingError, match="another format"):
        read_checkpoint(tmp_path / "format.pt")
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "none.pt")


def test_a_failure_while_writing_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, {"step": 1})

    def half(state: Any, file: Any) -> None:
        file.write(b"PK half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert read_checkpoint(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_is_synced_before_it_takes_the_old_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str, original: Callable[..., None]) -> Callable[..., None]:
        def call(*args: Any) -> None:
            done.append(name)
            original(*args)

        return call

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    write_checkpoint(tmp_path / "new" / "checkpoint.pt", {"step": 1})
    assert done == ["fsync", "replace"]
