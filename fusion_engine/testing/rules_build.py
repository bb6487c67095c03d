"""Rules about what a component is: its signature, its config, its weights."""

import inspect
import json
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fusion_engine.components import Modality, PosteriorPrior, Prior
from fusion_engine.errors import ConfigError, PluginError
from fusion_engine.signature import config_model, validate_config
from fusion_engine.testing.cases import Case
from fusion_engine.testing.observe import Broken, call, expect, learn, mode, observe
from fusion_engine.testing.subject import BASES, Subject, make_case, modality_hint

_WIRING = {
    "modality": (),
    "encoder": ("modality",),
    "fusion": ("inputs",),
    "posterior": ("inputs",),
    "prior": (),
    "decoder": ("latent", "modality", "conditions"),
    "head": ("inputs", "modality"),
    "loss": ("graph",),
    "recipe": ("modalities",),
    "dataset": (),
}


def signature(subject: Subject) -> None:
    """Wiring is positional; config is keyword-only with hints and defaults that pydantic understands."""
    target, kind = subject.target, subject.kind
    if kind in BASES:
        base = BASES[kind]
        expect(inspect.isclass(target) and issubclass(target, base), f"it is no subclass of {base.__name__}")
        left = ", ".join(sorted(getattr(target, "__abstractmethods__", ())))
        expect(not left, f"it is abstract: {left} is not implemented")
    try:
        keywords = list(config_model(target).model_fields)
    except PluginError as error:
        raise Broken(error.problem, error.fix) from error
    if kind in _WIRING:
        made_of = kind == "prior" and issubclass(target, PosteriorPrior)
        _check_wiring(target, ("inputs",) if made_of else _WIRING[kind], keywords)
    if kind in ("encoder", "decoder"):
        _check_family(target)


def _check_wiring(target: Any, wiring: tuple[str, ...], keywords: list[str]) -> None:
    expected = f"({', '.join(wiring)}{', ' if wiring else ''}*, {', '.join(keywords) or '...'})"
    try:
        inspect.signature(target).bind(*wiring, **dict.fromkeys(keywords))
    except TypeError as error:
        fix = f"take {expected}: what the graph gives is positional, what the config gives is keyword-only"
        raise Broken(f"its constructor cannot be called as {expected}: {error}", fix) from error


def _check_family(target: Any) -> None:
    try:
        family = modality_hint(target)
    except NameError as error:
        raise Broken(f"its annotations cannot be read: {error}", "import the names at run time") from error
    good = isinstance(family, type) and issubclass(family, Modality)
    expect(
        good, "it does not annotate `modality` with the class of modalities it takes", "modality: ImageModality, say"
    )


def parameters_registered(subject: Subject) -> None:
    """Whatever learns is in ``parameters()`` and ``state_dict()`` from construction on; a call makes none."""
    for module in subject.networks():
        check_registered(module, lambda module=module: call(module, make_case(module)))


def check_registered(module: nn.Module, use: Callable[[], object]) -> None:
    """Check a module before and after ``use`` has called it."""
    lazy = [n for n, p in module.named_parameters() if is_lazy(p)]
    fix = "construct every layer in __init__, from the declared widths"
    expect(not lazy, f"{', '.join(lazy)} has no shape before the first call", fix)
    _check_reachable(module)
    before = {n: id(p) for n, p in module.named_parameters()}
    use()
    made = sorted(n for n, p in module.named_parameters() if before.get(n) != id(p))
    expect(not made, f"a call makes parameters: {', '.join(made)}; the optimizer never sees them", fix)
    _check_reachable(module)


def _check_reachable(module: nn.Module) -> None:
    known = {id(p) for p in module.parameters()}
    fix = "use nn.ModuleList, nn.ModuleDict, nn.ParameterList or nn.Parameter"
    for path, tensor in _walk(module, "self", set()):
        expect(id(tensor) in known, f"{path} learns, but parameters() does not list it", fix)
    stored = {n for n, _ in module.state_dict(keep_vars=True).items()}
    for name, p in module.named_parameters(remove_duplicate=False):
        expect(name in stored, f"the parameter {name} {list(p.shape)} is not in state_dict()", "do not override it")


def _walk(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Find leaves that require a gradient in attributes, lists, tuples, sets and mappings."""
    if isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf:
            yield path, value
        return
    if id(value) in seen or isinstance(value, type) or not isinstance(value, _CONTAINERS):
        return
    seen.add(id(value))
    if isinstance(value, dict):
        parts = [(f"{path}[{key!r}]", x) for key, x in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [(f"{path}[{i}]", x) for i, x in enumerate(value)]
    else:
        parts = [(f"{path}.{key}", x) for key, x in vars(value).items()]
    for inner, x in parts:
        yield from _walk(x, inner, seen)


_CONTAINERS = (dict, list, tuple, set, frozenset, nn.Module)


def config_round_trip(subject: Subject) -> None:
    """Config -> component -> saved weights -> a component from the saved config: the same output, bit for bit."""
    saved = check_config(subject)
    for wiring, module in zip(subject.wirings(), subject.networks(), strict=True):
        _settle(module)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "weights.safetensors")
            save_model(module, path)
            again = subject.construct(*wiring, config=saved, seed=7).eval()
            try:
                load_model(again, path, strict=True)
            except RuntimeError as error:
                raise Broken(f"its saved weights do not fit one built from its saved config: {error}") from error
        _check_identical(module, again)


def check_config(subject: Subject) -> dict[str, Any]:
    """Write the config as JSON, read it again, and check that nothing has changed."""
    saved: dict[str, Any] = json.loads(json.dumps(subject.config))
    try:
        again = validate_config(subject.target, saved, subject.name)
    except ConfigError as error:
        raise Broken(f"its saved config is refused: {error}", "let every hint take what it gives back") from error
    changed = [key for key in saved if again.get(key) != saved[key]]
    fix = "no validator may change a value that it has already accepted"
    expect(again == saved, f"its saved config reads back differently: {', '.join(changed)}", fix)
    return saved


def _settle(module: nn.Module) -> None:
    """Let whatever is learned without gradients take a value that it does not start with."""
    if isinstance(module, Prior):
        module.fit(torch.randn(64, module.latent, generator=torch.Generator().manual_seed(3)))
        return
    with mode(module, True), torch.no_grad():
        call(module, make_case(module))


def _check_identical(module: nn.Module, again: nn.Module) -> None:
    case = make_case(module)
    with torch.no_grad():
        expected, found = observe(module, case).flat(), observe(again, case).flat()
    fix = "keep all that decides the output in the config, parameters or buffers"
    for name, x in expected.items():
        expect(torch.equal(x, found[name]), f"saved and loaded again, it gives another output: {name} differs", fix)


def no_global_random(subject: Subject) -> None:
    """In eval mode nothing is drawn from, or done to, the global random state; a sample depends on its Noise alone."""
    for module in subject.networks():
        case = make_case(module)
        check_no_global_random(lambda module=module, case=case: observe(module, case).flat())


def check_no_global_random(use: Callable[[], Mapping[str, Tensor]]) -> None:
    """Call something twice under different global random states, and check its outputs, and that the states stay."""
    fix, found = "draw from the Noise that is given, in eval mode as elsewhere", []
    for seed in (1, 2):
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # it is this very state that is watched
        before = _states()
        found.append(use())
        for name, state in _states().items():
            expect(torch.equal(state, before[name]), f"it uses the global random state of {name}", fix)
    for name, x in found[0].items():
        equal = x.shape == found[1][name].shape and torch.allclose(x, found[1][name], equal_nan=True)
        expect(equal, f"two calls with one Noise differ: {name}", fix)


def _states() -> dict[str, Tensor]:
    """Read the global states; Python's own is left out, as type checkers draw from it at every call."""
    _, keys, place, *_ = np.random.get_state()
    numpy = torch.tensor([*np.asarray(keys).tolist(), int(place)])
    return {"torch": torch.get_rng_state(), "numpy": numpy}


def parameters_learn(subject: Subject) -> None:
    """Every parameter receives a gradient that is not zero, over batches that miss each input in turn."""
    excused = subject.target.unused_parameters
    got: dict[str, bool] = {}
    for seed in (0, 1):
        module = subject.network(seed=seed)
        got |= {n: got.get(n, False) for n, p in module.named_parameters() if p.requires_grad}
        for case in _gaps(make_case(module, 8, ragged=True, lengths=[2, 4, 3], seed=seed)):
            torch.default_generator.manual_seed(seed)
            module.train()
            for name, gradient in learn(module, case).gradients.items():
                if name in got and bool((gradient != 0).any()):
                    got[name] = True
    unknown = [glob for glob in excused if not any(fnmatchcase(n, glob) for n in got)]
    expect(not unknown, f"unused_parameters names what there is not: {', '.join(unknown)}", "correct the glob")
    idle = [n for n, hit in got.items() if not hit and not any(fnmatchcase(n, glob) for glob in excused)]
    fix = "use or remove it, or list it in `unused_parameters` with the reason"
    expect(not idle, f"receives no gradient, or only zeros: {', '.join(idle)}", fix)


def _gaps(case: Case) -> Iterator[Case]:
    """Yield a whole case, one without each input, and one whose rows miss various ones or all."""
    yield case
    if case.present is None:
        return
    b, m = case.present.shape
    for i in range(m if m > 1 else 0):
        yield case.with_present(case.present & (torch.arange(m) != i))
    yield case.with_present((torch.arange(b)[:, None] >> torch.arange(m)) % 2 == 1)
