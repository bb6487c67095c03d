"""Stages, turns, averages, checkpoints: how a graph learns. The one place that knows Lightning (its Fabric)."""

from fusion_engine.training.callbacks import Callback
from fusion_engine.training.trainer import Trainer

__all__ = ["Callback", "Trainer"]
