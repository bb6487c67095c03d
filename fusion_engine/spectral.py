"""Spectral normalisation of a node's weights: Miyato et al., ICLR 2018, arXiv:1802.05957.

    W / sigma(W),  sigma the largest singular value of W as a matrix [outputs, the rest]

One power iteration follows W at every call in training mode; in eval mode the vectors found last are used.
"""

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from fusion_engine.errors import BuildError

_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)


def normalise(module: nn.Module, where: str) -> None:
    """Normalise every ``weight`` of two axes or more: of Linear, convolutions, embeddings and lookups of their own.

    Biases and the weights of normalisation layers stay. A weight that starts at zero has no direction, so it is drawn
    anew.

    Raises:
        BuildError: the node has a recurrent layer, or no such weight.
    """
    for part in module.modules():
        if isinstance(part, nn.RNNBase | nn.RNNCellBase):
            raise BuildError(
                "a recurrent layer cannot be normalised: its bound would not hold over steps",
                where=where,
                actual=type(part).__name__,
                fix="remove 'spectral_norm' here, or use an encoder of convolutions or attention",
            )
    chosen = [p for p in module.modules() if not isinstance(p, _NORMS) and _has_matrix(p)]
    if not chosen:
        raise BuildError("the node has no weight to normalise", where=where, fix="remove 'spectral_norm'")
    for part in chosen:
        weight = part.weight
        assert isinstance(weight, nn.Parameter)
        if not bool(weight.detach().any()):
            nn.init.kaiming_normal_(weight)
        spectral_norm(part)


def _has_matrix(module: nn.Module) -> bool:
    weight = dict(module.named_parameters(recurse=False)).get("weight")
    return weight is not None and weight.ndim > 1 and not isinstance(weight, nn.UninitializedParameter)
