"""Errors for people: what is wrong, where, what was expected, what was found, and what to do about it."""

import difflib
import os
import traceback
from collections.abc import Iterable
from pathlib import Path

_OURS = f"{Path(__file__).parent}{os.sep}"
_LIBRARIES = tuple(f"{os.sep}{name}{os.sep}" for name in ("torch", "jaxtyping", "beartype", "einops"))


class FusionError(Exception):
    """Something the user can mend.

    Args:
        problem: what is wrong, one sentence.
        where: the place, such as ``node 'enc_image', port 'in'`` or a file.
        expected: what would have been right.
        actual: what was found.
        fix: what to do.

    The parts stay readable as attributes, and together they are the message.
    """

    def __init__(
        self,
        problem: str,
        *,
        where: str | None = None,
        expected: str | None = None,
        actual: str | None = None,
        fix: str | None = None,
    ) -> None:
        self.problem, self.where, self.expected, self.actual, self.fix = problem, where, expected, actual, fix
        parts = [("where", where), ("expected", expected), ("actual", actual), ("fix", fix)]
        super().__init__("\n".join([problem, *(f"  {name}: {text}" for name, text in parts if text)]))


class ConfigError(FusionError):
    """A config that cannot be built: wrong name, key, type, range or wiring."""


class PluginError(FusionError):
    """A plugin or component that is missing, broken, blocked or registered twice."""


class BuildError(FusionError):
    """A graph whose parts do not do what they declare, found when it is built or probed."""


class DataError(FusionError):
    """Data that does not fit its modality."""


class TrainingError(FusionError):
    """Training that cannot go on: NaN or Inf, a checkpoint of another run, nothing to learn."""


class ContractError(FusionError):
    """A component that breaks a rule of its contract; ``rule`` names it."""

    def __init__(self, rule: str, problem: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.rule = rule
        super().__init__(f"rule '{rule}': {problem}", where=where, fix=fix)


def nearest(name: str, names: Iterable[str]) -> str:
    """Say which of the names is meant, or list them: the ending of an error about an unknown name."""
    known = sorted(set(names))
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    return "known: " + ", ".join(known) if known else "there are none"


def author_line(error: BaseException) -> str:
    """Say which line of a component's own code raised an error: the last one outside of libraries and the engine."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
    author = [f for f in frames if not f.filename.startswith(_OURS) and not any(x in f.filename for x in _LIBRARIES)]
    return "".join(f"{frame.filename}:{frame.lineno}, in {frame.name}" for frame in (author or frames)[-1:])


def one_line(error: BaseException) -> str:
    """Write an error as one line: its type and the first line of its text."""
    return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
