"""Rules about what a network returns, against what it declares."""

import torch
from torch import Tensor, nn

from fusion_engine.components import Decoder, Encoder, Fusion, Head, Modality
from fusion_engine.errors import FusionError, PluginError
from fusion_engine.kernels import double_backward
from fusion_engine.likelihoods import Likelihood
from fusion_engine.noise import Noise
from fusion_engine.signature import construct_kwargs
from fusion_engine.testing.observe import call, expect, finite, observe, project
from fusion_engine.testing.subject import LATENT, ROWS, Subject, make_case
from fusion_engine.values import Features, Posterior, Signal

FIX = "return what the component declares, or correct the declaration"


def declared_output(subject: Subject) -> None:
    """Types, widths, shapes, masks and weights are as declared, and numbers are finite."""
    for module in subject.networks():
        case = make_case(module)
        value = call(module, case)
        if isinstance(module, Encoder | Fusion):
            _features(value, module.widths)
        elif isinstance(module, Head):
            _tensor("its output", value, [ROWS, module.outputs])
            _decision(module, value)
        elif isinstance(module, Decoder):
            _likelihood(module, value)
        else:
            _posterior(value, int(module.latent), tuple(case.features))  # type: ignore[arg-type]
        finite(observe(module, case).flat(), "on whole rows", None)


def _tensor(what: str, x: object, shape: list[int], kind: torch.dtype | None = None) -> None:
    expect(isinstance(x, Tensor), f"{what} is a {type(x).__name__}, not a tensor", FIX)
    assert isinstance(x, Tensor)
    expect(list(x.shape) == shape, f"{what} has shape {list(x.shape)} instead of {shape}", FIX)
    good = x.is_floating_point() if kind is None else x.dtype == kind
    expect(good, f"{what} has type {x.dtype}", f"make it {'floating point' if kind is None else kind}")


def _features(value: object, widths: tuple[int, int]) -> None:
    expect(isinstance(value, Features), f"it returns a {type(value).__name__}, not Features", FIX)
    assert isinstance(value, Features)
    dt, dp = widths
    n = value.tokens.shape[1] if value.tokens.ndim > 1 else -1
    _tensor("tokens [b n dt]", value.tokens, [ROWS, n, dt])
    _tensor("pooled [b dp]", value.pooled, [ROWS, dp])
    _tensor("mask [b n]", value.mask, [ROWS, n], torch.bool)
    if value.position is not None:
        _tensor("position [b n p]", value.position, [ROWS, n, value.position.shape[-1]])


def _decision(module: Head, value: Tensor) -> None:
    """What a predicting head decides is a signal of its modality."""
    if module.modality is None:
        return
    signal: object = module.decide(value.detach())
    expect(isinstance(signal, Signal), f"decide returns a {type(signal).__name__}, not a Signal", FIX)
    assert isinstance(signal, Signal)
    expected = module.modality.example(ROWS).data
    found = f"{signal.data.dtype} {list(signal.data.shape)} instead of {expected.dtype} {list(expected.shape)}"
    expect(
        signal.data.shape == expected.shape and signal.data.dtype == expected.dtype,
        f"what it decides is no signal of its modality: {found}",
        "override `probabilities` or `decide`",
    )


def _posterior(value: object, latent: int, inputs: tuple[str, ...]) -> None:
    expect(isinstance(value, Posterior), f"it returns a {type(value).__name__}, not a Posterior", FIX)
    assert isinstance(value, Posterior)
    lead = list(value.z.shape[:-2])
    _tensor("z [*k b z]", value.z, [*lead, ROWS, latent])
    _tensor("weights [*k b]", value.weights, [*lead, ROWS])
    total = value.weights.flatten(0, -2).sum(0) if lead else value.weights
    positive = bool((value.weights >= 0).all())
    good = positive and torch.allclose(total, torch.ones_like(total), atol=1e-4)
    fix = "divide by their sum over k; a component that a row lacks has weight zero"
    expect(good, f"the weights do not sum to one over k, but to {[round(t, 4) for t in total.tolist()]}", fix)
    _tensor("kl() [*k b]", value.kl(), [*lead, ROWS])
    expect(float(value.kl().detach().min()) > -1e-3 or value.sampler is not None, "a KL is negative", FIX)
    strange = sorted(set(value.experts) - set(inputs))
    expect(not strange, f"experts are named by input, and {strange} are none", f"use {list(inputs)}")
    if value.choice is not None:
        _tensor("choice [b]", value.choice, [ROWS], torch.long)
    for name, drawn in {"sampled": value.sampled(Noise.of(ROWS)), "detached": value.detached()}.items():
        _tensor(f"z of {name}()", drawn.z, list(value.z.shape))
    _tensor("z of one()", value.one(Noise.of(ROWS)).z, [ROWS, latent])


def _likelihood(module: Decoder, value: object) -> None:
    expect(isinstance(value, Likelihood), f"it returns a {type(value).__name__}, not a Likelihood", FIX)
    assert isinstance(value, Likelihood)
    example = module.modality.example(ROWS)
    sample, mean = value.sample(Noise.of(ROWS)), value.mean
    for name, signal in {"the sample": sample, "the mean": mean}.items():
        ragged = example.mask is not None
        expected = list(example.data.shape[2 if ragged else 1 :])
        found = list(signal.data.shape[2 if ragged else 1 :])
        discrete = not example.data.is_floating_point() and len(found) == len(expected) + 1
        good = len(signal.data) == ROWS and (found == expected or discrete)
        expect(good, f"{name} has shape {list(signal.data.shape)}; its modality's is {list(example.data.shape)}", FIX)
        if signal.mask is not None:
            _tensor(f"the mask of {name}", signal.mask, list(signal.data.shape[:2]), torch.bool)
    if module.density:
        _tensor("log_prob [*k b]", value.log_prob(example), [ROWS])
        return
    try:
        value.log_prob(example)
    except FusionError:
        return
    expect(False, "it declares no density, yet log_prob answers", "return Samples, or leave `density` True")


def relaxed_input(subject: Subject) -> str | None:
    """An encoder takes what its modality's ``relax`` makes of a decoder, and lets the gradient through."""
    assert subject.modality is not None
    decoder = default_decoder(subject, subject.modality)
    if decoder is None:
        return "no decoder of its modality is registered, so nothing generated was encoded"
    encoder, z = subject.network(), torch.randn(ROWS, LATENT, requires_grad=True)
    real = subject.modality.example(ROWS)
    for like in (None, real):
        signal = subject.modality.relax(decoder(z, {}), Noise.of(ROWS), like)
        features = encoder(signal)
        finite({"pooled": features.pooled}, "of a generated signal")
        (found,) = torch.autograd.grad(features.pooled.pow(2).sum(), z, allow_unused=True)
        moved = found is not None and bool(found.isfinite().all()) and bool((found != 0).any())
        expect(moved, "no gradient reaches the decoder through it", "take soft one-hot data as well as indices")
    return None


def default_decoder(subject: Subject, modality: Modality) -> nn.Module | None:
    """Make the decoder that a modality uses where none is named; None where it is not registered."""
    name: object = getattr(modality, "decoder", None)
    if not isinstance(name, str):
        return None
    try:
        target = subject.registry.resolve(name, "decoder").load()
    except PluginError:
        return None
    torch.default_generator.manual_seed(0)
    decoder: nn.Module = target(LATENT, modality, {}, **construct_kwargs(target, {}, name))
    return decoder.eval()


def double_backward_works(subject: Subject) -> str | None:
    """Whether an encoder can be differentiated twice; without it, gradient penalties are approximated."""
    encoder = subject.network()
    assert isinstance(encoder, Encoder)
    signal = make_case(encoder).signal
    assert signal is not None
    try:
        with double_backward(iter([encoder]), "cpu"):
            x = encoder.embed(signal.data).detach().clone()
            if not x.is_floating_point():
                return "its data is discrete and has no embedding, so nothing is differentiated"
            x.requires_grad_()
            outputs = {"pooled": encoder.encode(x, signal).pooled.pow(2)}
            (gradient,) = torch.autograd.grad(project(outputs), x, create_graph=True)
            gradient.pow(2).sum().backward()  # type: ignore[no-untyped-call]
    except (RuntimeError, NotImplementedError) as error:
        return f"no double backward, so gradient penalties on it are approximated: {str(error).splitlines()[0]}"
    return None
