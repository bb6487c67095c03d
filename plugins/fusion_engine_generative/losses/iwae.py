"""Importance-weighted bound: Burda et al. 2016, arXiv:1509.00519; for mixtures of experts Shi et al. 2019.

The stratified bound of mixtures is that of arXiv:1911.03393, section 3.
"""

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from fusion_engine import Posterior
from fusion_engine_generative.losses.importance import ImportanceBound, Latents, densities


class IWAE(ImportanceBound):
    """Minus a bound on log p(x) from S draws, that grows with S; in place of reconstruction and KL.

        row = - log 1/S sum_s w_s,  w = prod_m p(x_m | z)^(w_m) p(z) / q(z | x),  z_s ~ q(z | x)
        row = - sum_k weight[k] log 1/S sum_s w_ks,  z_ks ~ q_k(z | x),           q = sum_k weight[k] q_k  (moe, mopoe)

    With one draw it is the ELBO, the KL estimated. Several latents of a decoder multiply their p / q; posteriors on one
    sample axis are one mixture, and those whose components have priors of their own (``cross_private``) are taken
    component by component, as in the MMVAE+. Modalities that a row lacks leave its product; a row with nothing present
    adds nothing. It is a bound on log p(x) with w_m = 1: ``balance: false``, no ``weights``.
    A mixture's density costs (components)^2 evaluations of a Normal, which is little beside decoding for ``moe``; its
    memory grows with 4^m for ``mopoe``.
    Axes: s samples, k components, b batch, m modalities, z latent.

    Args:
        samples: S, draws of each component.
        chunk: how many of them are decoded in one call.
        weight: of the term.
        weights: w_m by modality, 1 where not named.
        balance: multiply w_m by the largest size of a modality over its own, as ``loss/reconstruction`` does.
        nodes: which decoders (globs); the posteriors are those that they read.

    Raises:
        BuildError: a decoder reads no posterior, is behind another one, or has no density.
    """

    def objective(
        self, posteriors: Mapping[str, Posterior], drawn: Latents, decode: Callable[[Latents], Tensor]
    ) -> Tensor:
        """Return log 1/S sum_s w_s of each component."""
        log_w = decode(drawn) + densities(posteriors, drawn).ratio
        return log_w.logsumexp(0) - math.log(self.samples)
