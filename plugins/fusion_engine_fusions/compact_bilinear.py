"""Multimodal compact bilinear pooling (MCB): Fukui et al., EMNLP 2016, arXiv:1606.01847.

Count sketches of outer products by convolution: Pham and Pagh, KDD 2013, doi:10.1145/2487575.2487591.
"""

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from fusion_engine import Features, Fusion, Widths
from fusion_engine_fusions.bilinear import hadamard, l2_normalised, projection, signed_sqrt


class CountSketch(nn.Module):
    """Project by hashing: each coordinate is added, with a sign, to one of ``size`` places.

        out_s = sum over p with place_p = s of sign_p x_p,   E <sketch(x), sketch(y)> = <x, y>

    The hashes are drawn once and saved with the model. Axes: b batch, p width, s size of the sketch.

    Args:
        width: p.
        size: s.
        generator: draws the hashes.
    """

    place: Tensor
    sign: Tensor

    def __init__(self, width: int, size: int, generator: torch.Generator) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("place", torch.randint(size, (width,), generator=generator))
        self.register_buffer("sign", torch.randint(2, (width,), generator=generator) * 2 - 1)

    def forward(self, x: Float[Tensor, "b p"]) -> Float[Tensor, "b s"]:
        """Sketch each row."""
        return x.new_zeros(len(x), self.size).index_add(1, self.place, x * self.sign)


class CompactBilinearFusion(Fusion):
    """Sketch the outer product of all inputs without building it: convolve their count sketches, in Fourier space.

        sketch = irfft(prod_i rfft(count_sketch_i(x_i)))                 [b size]
        fused  = P l2_normalised(sign(sketch) sqrt(|sketch|)) + c        [b width]

    Convolution of sketches is the sketch of the outer product whose hash is the sum of the inputs' hashes. The paper
    has two inputs; the product runs over any number. Nothing before P is learned. Half precision is left for the
    transform, also under autocast.
    Missing: the sketch of an absent input is the identity of convolution, (1, 0, 0, ...), whose transform is 1.
    Axes: b batch, m inputs, s size of the sketch, d width.

    Args:
        inputs: the widths of each input.
        width: what it returns, tokens (one a row) and pooled vector alike.
        size: of the sketch; the error of an inner product falls as size^-1/2.
        seed: of the hashes.
    """

    def __init__(
        self,
        inputs: Mapping[str, Widths],
        *,
        width: Annotated[int, Field(ge=1)] = 128,
        size: Annotated[int, Field(ge=2)] = 1024,
        seed: Annotated[int, Field(ge=0)] = 0,
    ) -> None:
        super().__init__(inputs, width)
        self.size = size
        generator = torch.Generator().manual_seed(seed)
        self.sketches = nn.ModuleList(CountSketch(w.pooled, size, generator) for w in inputs.values())
        self.out = projection(size, width, gain=size**0.5)  # the sketch has length 1

    def forward(self, features: Mapping[str, Features], present: Bool[Tensor, "b m"]) -> Features:
        """Fuse; a row with nothing present has the identity of convolution."""
        vectors = self.pooled(features, present)
        with torch.autocast(vectors[0].device.type, enabled=False):
            sketch = self._convolved([_at_least_single(x) for x in vectors], present)
            normalised = l2_normalised(signed_sqrt(sketch))
        return Features.of_pooled(self.out(normalised.to(vectors[0].dtype)))

    def _convolved(self, vectors: list[Float[Tensor, "b _"]], present: Bool[Tensor, "b m"]) -> Float[Tensor, "b s"]:
        spectra = [torch.fft.rfft(sketch(x)) for sketch, x in zip(self.sketches, vectors, strict=True)]
        convolved: Tensor = torch.fft.irfft(hadamard(spectra, present), n=self.size)
        return convolved


def _at_least_single(x: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
    return x.to(torch.promote_types(x.dtype, torch.float32))
