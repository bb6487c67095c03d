"""What ``fusion-engine doctor`` checks: versions that work together, devices, plugins."""

import importlib
import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from fusion_engine.plugins import Plugins

Check = tuple[str, bool, str]
"""What, whether it is fine, a remark."""


def check_environment(plugins: Plugins) -> list[Check]:
    """Run every check, those of plugins included."""
    found = [
        (
            "python",
            True,
            f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} processors",
        )
    ]
    found += _distributions()
    found += [_imports(module) for module in ("torch", "torchvision", "torchaudio")]
    found.append(_device())
    found += [(f"plugin {info.name}", info.state != "failed", info.reason or info.state) for info in plugins.infos]
    for checks in plugins.call("environment_checks"):
        found += checks
    return found


@cache
def commit() -> str:
    """Name the commit that fusion_engine runs from, with ``-dirty`` where files differ; empty for an installed one.

    As it was when first asked: ask before hours of training, for a process keeps the code that it began with.
    """
    folder = Path(__file__).parent
    try:
        command = ["git", "-C", str(folder), "ls-files", "--error-unmatch", Path(__file__).name]
        subprocess.run(command, check=True, capture_output=True)
        described = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=10"]
        return subprocess.run(described, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _distributions() -> list[Check]:
    checks = []
    for line in requires("fusion-engine") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            checks.append((requirement.name, False, f"is missing: pip install '{requirement}'"))
            continue
        fine = requirement.specifier.contains(found, prereleases=True)
        checks.append((requirement.name, fine, found if fine else f"{found}, but {requirement.specifier} is needed"))
    return checks


def _imports(module: str) -> Check:
    """Import a library whose binary may not fit torch's."""
    try:
        importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 (a binary mismatch raises anything)
        return (f"import {module}", False, f"{type(error).__name__}: {error}")
    return (f"import {module}", True, "works")


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        return ("device", True, torch.cuda.get_device_name())
    return ("device", True, f"CPU, {torch.get_num_threads()} threads")
