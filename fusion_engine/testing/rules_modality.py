"""Rules of modalities: raw samples become tensors and come back."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fusion_engine.components import Modality
from fusion_engine.errors import DataError, FusionError
from fusion_engine.noise import Noise
from fusion_engine.signature import validate_config
from fusion_engine.testing.observe import Broken, expect, finite, same
from fusion_engine.testing.rules_build import check_config, check_no_global_random
from fusion_engine.testing.rules_declared import default_decoder
from fusion_engine.testing.subject import LATENT, ROWS, Subject
from fusion_engine.values import Media, Signal


def _modality(subject: Subject) -> Modality:
    return subject.modality if subject.modality is not None else subject.construct()


def _prepared(modality: Modality, raw: Any) -> Signal:
    found: object = modality.prepare(raw)
    if not isinstance(found, Signal):
        raise Broken(f"prepare returns a {type(found).__name__}", "return a Signal without the batch axis")
    return found


def _learned(modality: Modality, raw: list[Any]) -> dict[str, Any]:
    found: object = modality.fit(iter(raw))
    if not isinstance(found, dict):
        raise Broken(f"fit returns a {type(found).__name__}", "return the learned config keys as a dict, {} for none")
    return found


def _tensors(signal: Signal) -> dict[str, Tensor]:
    """Take what is valid of a signal."""
    if signal.mask is None:
        return {"data": signal.data}
    found = {"data": signal.data[signal.mask], "the lengths": signal.mask.sum(1)}
    return found if signal.position is None else found | {"position": signal.position[signal.mask]}


def defaults(subject: Subject) -> str | None:
    """The class names the encoder and decoder that are used where none is named."""
    for kind in ("encoder", "decoder"):
        use = vars(subject.target).get(kind) or getattr(subject.target, kind, None)
        expect(isinstance(use, str), f"it names no default {kind}", f"{kind} = '{kind}/my_plugin.name'")
        expect(str(use).startswith(f"{kind}/"), f"its default {kind} is {use!r}", f"begin it with '{kind}/'")
        try:
            subject.registry.resolve(str(use), kind)
        except FusionError as error:
            return f"its default {kind} was not found: {error.problem}"
    return None


def example(subject: Subject) -> None:
    """``example(b)`` gives b rows of one type and shape; ragged rows have a mask."""
    modality = _modality(subject)
    for b in (1, ROWS):
        signal = modality.example(b)
        expect(len(signal) == b, f"example({b}) has {len(signal)} rows")
        if signal.mask is not None:
            good = signal.mask.dtype == torch.bool and signal.mask.shape == signal.data.shape[:2]
            expect(good, "its mask is no Bool [b n]", "True where valid")
            expect(bool(signal.mask.any(1).all()), "a row of its example has no valid slot")
        finite(_tensors(signal), "example")
    expect(modality.size >= 1, f"its size is {modality.size}", "count the numbers of one sample")


def config_round_trip(subject: Subject) -> None:
    """Its config, saved and read again, makes the same modality."""
    saved = check_config(subject)
    first, again = (subject.construct(config=c, seed=s) for c, s in ((subject.config, 0), (saved, 7)))
    raw = first.restore(first.example(ROWS))
    one, other = (_tensors(m.collate([_prepared(m, r) for r in raw])) for m in (first, again))
    same(other, one, "made again from its saved config, it prepares otherwise", "keep what it learns in its config")


def prepare_restore(subject: Subject) -> None:
    """``prepare`` undoes ``restore``: no sample changes on the way through raw data."""
    modality = _modality(subject)
    signal = modality.example(ROWS)
    raw = modality.restore(signal)
    expect(len(raw) == ROWS, f"restore gives {len(raw)} samples for {ROWS} rows")
    again = modality.collate([_prepared(modality, r) for r in raw])
    expect(again.data.dtype == signal.data.dtype, f"prepare gives {again.data.dtype}, example {signal.data.dtype}")
    same(_tensors(again), _tensors(signal), "restored and prepared again, a sample differs")


def collate(subject: Subject) -> None:
    """Prepared samples have no batch axis; together they make rows that keep each sample as it is."""
    modality = _modality(subject)
    samples = [_prepared(modality, r) for r in modality.restore(modality.example(ROWS))]
    whole = modality.collate(samples)
    expect(len(whole) == ROWS, f"collate of {ROWS} samples has {len(whole)} rows")
    for i, sample in enumerate(samples):
        axes = (sample.data.ndim, whole.data.ndim - 1)
        expect(axes[0] == axes[1], f"a prepared sample has {axes[0]} axes, a row of a batch {axes[1]}")
        row = _tensors(whole.take(torch.tensor([i])))
        same(row, _tensors(sample.map(lambda x: x[None])), f"sample {i} changes among longer ones")


def blank(subject: Subject) -> None:
    """``blank()`` stands in for a missing sample: it collates with real ones."""
    modality = _modality(subject)
    sample = _prepared(modality, modality.restore(modality.example(1))[0])
    both = modality.collate([sample, modality.blank()])
    expect(len(both) == 2, f"a sample and a blank make {len(both)} rows")
    same(
        _tensors(both.take(torch.tensor([0]))), _tensors(sample.map(lambda x: x[None])), "a blank changes its neighbour"
    )


def fit(subject: Subject) -> None:
    """``fit`` returns keys of its own config, plain values that make a modality which takes the data as it is."""
    modality = _modality(subject)
    raw = modality.restore(modality.example(2 * ROWS))
    learned = _plain(_learned(modality, raw))
    config = validate_config(subject.target, {**subject.config, **learned}, subject.name)
    fitted = subject.construct(config=config)
    signal = fitted.collate([_prepared(fitted, r) for r in raw])
    finite(_tensors(signal), "data it was fitted to")
    expect(fitted.example(1).data.dtype == signal.data.dtype, "its example has another type than its data")
    again = validate_config(subject.target, {**config, **_plain(_learned(fitted, raw))}, subject.name)
    changed = [key for key in config if config[key] != again[key]]
    expect(not changed, f"fitted again to the same data, it changes: {', '.join(changed)}", "keep what is configured")


def _plain(learned: dict[str, Any]) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(json.dumps(learned, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Broken(f"fit returns what JSON cannot hold: {error}", "return lists, numbers, strings") from error
    return read


def refuses(subject: Subject) -> None:
    """What is no sample is refused by ``prepare`` and ``fit`` with a DataError, in words."""
    modality = _modality(subject)
    uses: dict[str, Callable[[], object]] = {
        "prepare": lambda: modality.prepare(object()),
        "fit": lambda: modality.fit([object()]),
    }
    for name, use in uses.items():
        try:
            use()
        except DataError:
            continue
        except Exception as error:
            fix = "raise DataError with what was expected and found (fusion_engine.require)"
            raise Broken(f"{name} of no sample raises {type(error).__name__}", fix) from error
        raise Broken(f"{name} takes an object that is no sample", "check raw samples")


def relax(subject: Subject) -> str | None:
    """``relax`` draws a differentiable signal from the Noise alone, with the mask of the paired real one."""
    modality = _modality(subject)
    decoder = default_decoder(subject, modality)
    if decoder is None:
        return "its default decoder is not registered, so `relax` was not tried"
    z = torch.randn(ROWS, LATENT, generator=torch.Generator().manual_seed(0)).requires_grad_()
    real = modality.example(ROWS)
    for like in (None, real):
        signal = modality.relax(decoder(z, {}), Noise.of(ROWS, 3), like)
        finite({"data": signal.data}, "a relaxed signal")
        expect(signal.data.requires_grad, "a relaxed signal is cut from the likelihood", "draw it differentiably")
        weights = torch.randn(signal.data.shape, generator=torch.Generator().manual_seed(1))
        (found,) = torch.autograd.grad((signal.data * weights).sum(), z)
        expect(bool((found != 0).any()), "no gradient reaches the likelihood's parameters", "draw it differentiably")
    if real.mask is not None:
        kept = signal.mask is not None and torch.equal(signal.mask, real.mask)
        expect(kept, "the relaxed signal lacks the mask of `like`", "a discriminator must not see lengths")
        nan = Signal(
            real.data.new_full(real.data.shape, torch.nan) if real.data.is_floating_point() else real.data, real.mask
        )
        same(
            _tensors(modality.relax(decoder(z, {}), Noise.of(ROWS, 3), nan)),
            _tensors(signal),
            "the content of `like` matters",
        )
    check_no_global_random(lambda: {"data": modality.relax(decoder(z, {}), Noise.of(ROWS, 3), real).data})
    return None


def augment(subject: Subject) -> str | None:
    """``augment`` changes rows differentiably, twice, by the Noise alone; padding and batch-mates change nothing."""
    modality = _modality(subject)
    if not modality.augmentations:
        return "it has no augmentations"
    for name in modality.augmentations:
        _check_augmentation(modality, name)
    try:
        modality.augment(modality.example(1), "no such augmentation", Noise.of(1))
    except FusionError:
        return None
    raise Broken("augment takes a name that it does not declare", "end with: return super().augment(...)")


def _check_augmentation(modality: Modality, name: str) -> None:
    signal, noise = modality.example(ROWS), Noise.of(ROWS, 5)

    def found(signal: Signal, noise: Noise) -> dict[str, Tensor]:
        return _tensors(modality.augment(signal, name, noise))

    whole = modality.augment(signal, name, noise)
    alike = whole.data.shape == signal.data.shape and whole.data.dtype == signal.data.dtype
    expect(alike, f"{name!r} changes the shape or the type of data", "return data of the same [b ...]")
    kept = signal.mask is None or (whole.mask is not None and torch.equal(whole.mask, signal.mask))
    expect(kept, f"{name!r} changes the mask", "a discriminator must not see lengths")
    draws = [modality.augment(signal, name, noise.at(i)).data for i in range(4)]
    changed = any(not torch.equal(d, signal.data) for d in draws)
    expect(changed, f"{name!r} changes nothing", "remove it from `augmentations`")
    rows = torch.tensor([2, 0])
    same(
        found(signal.take(rows), replace(noise, index=noise.index[rows])),
        _tensors(whole.take(rows)),
        f"what {name!r} does to a row depends on its batch-mates",
        "draw by noise.uniform(...), which is keyed by the row",
    )
    check_no_global_random(lambda: found(signal, noise))
    if signal.mask is not None:
        _check_padding(modality, name, signal, whole, noise)
    if signal.data.is_floating_point():
        _check_gradient(modality, name, signal, noise)


def _check_padding(modality: Modality, name: str, signal: Signal, whole: Signal, noise: Noise) -> None:
    longer = signal.map(lambda x: torch.cat([x, x[:, :2]], 1))
    mask = torch.cat([signal.mask, torch.zeros(ROWS, 2, dtype=torch.bool)], 1)  # type: ignore[list-item]
    data = longer.data.clone()
    data[~mask] = torch.nan if data.is_floating_point() else 0
    padded = modality.augment(Signal(data, mask, longer.position), name, noise)
    same(_tensors(padded), _tensors(whole), f"what {name!r} does to a row depends on its padding", "count by the mask")
    expect(bool(padded.data[~mask].isnan().all()), f"{name!r} changes padding", "leave padded slots as they are")


def _check_gradient(modality: Modality, name: str, signal: Signal, noise: Noise) -> None:
    data = signal.filled().requires_grad_()
    changed = modality.augment(Signal(data, signal.mask, signal.position), name, noise).data
    expect(changed.requires_grad, f"{name!r} cuts the gradient", "a generator learns through it")
    (once,) = torch.autograd.grad(changed.pow(2).sum(), data, create_graph=True)
    expect(once.requires_grad, f"{name!r} has no second derivative", "penalties are differentiated twice")
    (twice,) = torch.autograd.grad(once.pow(2).sum(), data)
    finite({"the gradient": once.detach(), "its gradient": twice}, name)


def render(subject: Subject) -> None:
    """``render`` draws each row as Media."""
    modality = _modality(subject)
    media = modality.render(modality.example(ROWS))
    expect(len(media) == ROWS, f"render gives {len(media)} items for {ROWS} rows")
    for item in media:
        expect(isinstance(item, Media), f"render gives a {type(item).__name__}", "return Media(mime, bytes)")
        expect("/" in item.mime and isinstance(item.content, bytes), f"{item.mime!r} is no type of content")
    expect(any(item.content for item in media), "everything rendered is empty")
