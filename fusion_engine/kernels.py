"""Which kernels a call runs on: batch statistics or running ones, once or twice differentiable, in what precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


def in_full(x: Tensor) -> Tensor:
    """Return half-precision numbers in single precision: what autocast has made is data for what comes next."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


@contextmanager
def running_statistics(module: nn.Module, rows: int) -> Iterator[None]:
    """Let BatchNorm use its running statistics where fewer than two rows would have to stand for a batch."""
    norms = []
    if rows < 2 and module.training:
        norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


@contextmanager
def double_backward(modules: Iterator[nn.Module], device: str) -> Iterator[None]:
    """Choose kernels that can be differentiated twice: plain attention, no cuDNN for recurrent nets, full precision."""
    recurrent = any(isinstance(m, nn.RNNBase) for module in modules for m in module.modules())
    cudnn = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled and not recurrent)
    with sdpa_kernel(SDPBackend.MATH), torch.autocast(device, enabled=False), cudnn:
        yield
