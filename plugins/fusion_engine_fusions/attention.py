"""What fusions by attention share: heads that fit, and keys for rows that have none."""

from jaxtyping import Bool
from torch import Tensor

from fusion_engine import BuildError


def check_heads(width: int, heads: int, key: str = "width") -> None:
    """Check that the heads share a width evenly; ``key`` is its name in the config.

    Raises:
        BuildError: they do not.
    """
    if width % heads:
        divisor = max(h for h in range(1, heads + 1) if width % h == 0)
        raise BuildError(
            "the heads do not share the width evenly",
            expected=f"heads that divide {key}",
            actual=f"{key} {width}, heads {heads}",
            fix=f"heads {divisor}, or {key} {-(-width // heads) * heads}",
        )


def guarded(keys: Bool[Tensor, "*b n"]) -> tuple[Bool[Tensor, "*b n"], Bool[Tensor, "*b"]]:
    """Open all keys of the rows that have none, and say which rows have any.

    A softmax over no key is NaN, in its gradient too. Whoever attends with the opened keys overwrites what the rows
    without any get: they attended to nothing.
    """
    some = keys.any(-1)
    return keys | ~some[..., None], some
