"""What a report says about a run besides its results: seed, steps, seconds, versions. No host name, path or date."""

import os
import platform
from importlib.metadata import version
from typing import Any

import torch

from fusion_engine.artefact import plugins_of
from fusion_engine.model import FusionModel

LIBRARIES = ("torch", "torchvision", "torchaudio", "numpy", "timm", "transformers")


def run_facts(model: FusionModel, commit: str = "") -> dict[str, str]:
    """Say how a model was trained: seed, steps, seconds, commit; what is not known is left out."""
    metrics: dict[str, Any] = model.metrics
    found = {"seed": str(model.config.train.seed)}
    if "steps" in metrics:
        found["steps"] = str(metrics["steps"])
    if "seconds" in metrics:
        found["training"] = f"{metrics['seconds']} s"
    if metrics.get("interrupted"):
        found["interrupted"] = "yes"
    if commit:
        found["commit"] = commit
    return found


def environment(model: FusionModel) -> dict[str, str]:
    """Say what a model was run with: versions, threads, kind of machine."""
    found = {"fusion-engine": version("fusion-engine"), "python": platform.python_version()}
    found |= {name: version(name) for name in LIBRARIES}
    ours = "fusion-engine"
    for name, plugin in plugins_of(model.config, model.plugins).items():
        if plugin["distribution"] != ours:
            found[f"plugin {name}"] = f"{plugin['distribution'] or 'a single file'} {plugin['version'] or ''}".strip()
    cuda = model.device.type == "cuda"
    found["device"] = torch.cuda.get_device_name(model.device) if cuda else model.device.type
    found["threads"] = str(torch.get_num_threads())
    found["machine"] = f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    return found
