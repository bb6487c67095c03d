"""A small VAE-GAN of two vectors, half of whose cells are missing, and how a process of its own trains it."""

import math
import multiprocessing
import os
import random
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from fusion_engine import Engine, FusionModel, TrainingError
from fusion_engine.noise import Noise
from fusion_engine.training import Callback, Trainer

PLUGIN = Path(__file__).with_name("plain.py")
MODALITIES = ("x", "y")
VAE = ["reconstruction", "kl"]
GAN = ["adversarial", "matching"]


def config(
    stages: Sequence[Mapping[str, Any]] | None = None, *, dropout: float = 0.0, norm: bool = False, **train: Any
) -> dict[str, Any]:
    """Posterior, two decoders, a joint discriminator; the relativistic game, both penalties, feature matching."""
    inner = {"dropout": dropout, "norm": norm}
    return {
        "modalities": {m: {"use": "modality/plain.vector"} for m in MODALITIES},
        "nodes": {
            **{f"enc_{m}": {"use": "encoder/plain.mlp", "in": m, "with": inner} for m in MODALITIES},
            "post": {"use": "posterior/poe", "in": [f"enc_{m}" for m in MODALITIES], "with": {"latent": 3}},
            **{f"dec_{m}": {"use": "decoder/plain.mlp", "in": "post", "out": m} for m in MODALITIES},
            **{f"disc_{m}": {"use": "encoder/plain.mlp", "in": m} for m in MODALITIES},
            "disc_all": {"use": "fusion/concat", "in": [f"disc_{m}" for m in MODALITIES], "with": {"width": 6}},
            "score": {"use": "head/score", "in": "disc_all"},
        },
        "losses": {
            "reconstruction": {"use": "loss/reconstruction"},
            "kl": {"use": "loss/kl", "with": {"warmup_steps": 8}},
            "adversarial": {
                "use": "loss/relativistic",
                "with": {"score": "score", "r1": 0.1, "r2": 0.1, "fakes": {"reconstruction": 1, "prior": 1}},
            },
            "matching": {"use": "loss/feature_matching", "with": {"score": "score"}},
        },
        "stages": stages
        or [
            {"name": "pretrain", "epochs": 2, "losses": VAE},
            {
                "name": "adversarial",
                "steps": 9,
                "losses": ["reconstruction", *GAN],
                "learn": ["disc_*", "score", "dec_*"],
            },
            {
                "name": "together",
                "epochs": 9,
                "losses": VAE + GAN,
                "until": {"metric": "generator/kl", "patience": 2, "delta": 10.0},
            },
        ],
        "train": {
            "batch_size": 16,
            "optimizer": {
                "generator": {"lr": 4e-3, "betas": [0.5, 0.99]},
                "discriminator": {"lr": 2e-3, "betas": [0.0, 0.99], "weight_decay": 0.01},
            },
            "schedule": "cosine",
            "ema_half_life": 200,
            "clip": 20.0,
            "checkpoint_every": 4,
            "seed": 3,
            **train,
        },
    }


def table(rows: int = 83, missing: float = 0.5) -> dict[str, list[list[float] | None]]:
    """Correlated vectors of three and of two numbers; which cells are missing is keyed by the row."""
    noise = Noise.of(rows, 7)
    z = noise.at("z").normal(2)
    data = {
        "x": torch.stack([z[:, 0], z.sum(1), z[:, 1].tanh()], 1) + 0.1 * noise.at("x").normal(3),
        "y": torch.stack([z[:, 1], -z[:, 0]], 1) + 0.1 * noise.at("y").normal(2),
    }
    gone = {m: noise.at("missing", m).uniform() < missing for m in MODALITIES}
    return {m: [None if g else row for row, g in zip(data[m].tolist(), gone[m], strict=True)] for m in MODALITIES}


def build(given: Mapping[str, Any]) -> FusionModel:
    """Build a model of ours."""
    return Engine(plugins=[PLUGIN]).build(given)


class Recorder(Callback):
    """Keeps the trainer, and every step's metrics."""

    trainer: Trainer

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.live: dict[str, torch.Tensor] = {}

    def on_step_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.metrics.append(dict(metrics))
        self.live = {name: value.clone() for name, value in trainer.graph.state_dict().items()}


class Kill(Callback):
    """Dies without a word, as a machine does, when the given steps are done."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        if trainer.progress.step == self.steps:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Job:
    """One training run in processes of its own.

    Args:
        folder: where its checkpoint and its result go.
        config: of the model.
        world: how many processes share it.
        kill: after how many steps they are killed; None lets them end.
        resume: from the checkpoint in ``folder``.
        double: compute in double precision.
        poison: a row whose x is not finite.
    """

    folder: Path
    config: Mapping[str, Any]
    world: int = 1
    kill: int | None = None
    resume: bool = False
    double: bool = False
    poison: int | None = None

    def then(self, **changes: Any) -> "Job":
        """The same, with something changed."""
        return replace(self, **changes)

    def result(self, rank: int = 0) -> dict[str, Any]:
        """What a process had in the end."""
        found: dict[str, Any] = torch.load(self.folder / f"result-{rank}.pt", weights_only=True)
        return found


def perform(job: Job, rank: int, port: int) -> None:
    """Train as one of the processes of a job, and write down all that there is in the end."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64 if job.double else torch.float32)
    recorder, shared = Recorder(), job.world > 1
    if shared:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
        os.environ |= {"LOCAL_RANK": str(rank), "RANK": str(rank), "WORLD_SIZE": str(job.world)}
    fabric = Fabric(accelerator="cpu", devices=job.world, strategy="ddp" if shared else "auto")
    fabric.launch()
    callbacks = [recorder, *([] if job.kill is None else [Kill(job.kill)])]
    model = build(job.config)
    data, drawn, error = table(), random.getstate(), ""
    if job.poison is not None:
        data["x"][job.poison] = [math.inf, 0.0, 0.0]
    try:
        model.fit(data, directory=job.folder, resume=job.resume, callbacks=callbacks, fabric=fabric)
    except TrainingError as raised:
        error = str(raised)
    assert random.getstate() == drawn, "training has used its user's random numbers"
    trainer = recorder.trainer
    state = {
        "averaged": dict(model.graph.state_dict()),
        "live": recorder.live,
        "optimizers": {turn.player: turn.optimizer.state_dict() for turn in trainer.turns},
        "history": trainer.progress.history,
        "step": trainer.progress.step,
        "error": error,
    }
    torch.save(state, job.folder / f"result-{rank}.pt")
    if shared:
        torch.distributed.destroy_process_group()


def _start(job: Job) -> list[Any]:
    """Start the processes of a job: forks of a server that has imported torch once and computed nothing."""
    job.folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning_fabric", "fusion_engine.model"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [context.Process(target=perform, args=(job, rank, port)) for rank in range(job.world)]
    for process in processes:
        process.start()
    return processes


def run(*jobs: Job) -> None:
    """Run jobs side by side to their ends, or to their deaths where that is wanted."""
    started = [(job, _start(job)) for job in jobs]
    for job, processes in started:
        for process in processes:
            process.join(120)
        codes = [process.exitcode for process in processes]
        assert codes == [0 if job.kill is None else -signal.SIGKILL] * job.world, (job, codes)
