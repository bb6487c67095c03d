"""Training checkpoints: tensors and plain containers, written whole or not at all, read without unpickling code."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from fusion_engine.errors import TrainingError

FORMAT = 1


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write to a temporary name, sync, rename: a kill at any moment leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        TrainingError: it is missing, of another format, or holds more than tensors and plain containers.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise TrainingError(f"there is no checkpoint {path}", fix="train without resuming first") from error
    except Exception as error:
        raise TrainingError(
            f"{path} is not a checkpoint of ours", actual=str(error).splitlines()[0], fix="remove it and train anew"
        ) from error
    if state.get("format") != FORMAT:
        raise TrainingError(
            "the checkpoint has another format", where=str(path), expected=str(FORMAT), actual=str(state.get("format"))
        )
    return state
