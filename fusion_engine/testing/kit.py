"""The conformance kit: every rule of the contracts, proved for one component."""

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from fusion_engine.components import Modality
from fusion_engine.config import Player
from fusion_engine.entry import Entry
from fusion_engine.errors import ConfigError, ContractError, FusionError, author_line, nearest, one_line
from fusion_engine.kinds import KINDS
from fusion_engine.plugins import load_plugins
from fusion_engine.registry import Registry
from fusion_engine.signature import config_model, validate_config
from fusion_engine.testing import (
    rules_build,
    rules_declared,
    rules_ensemble,
    rules_generators,
    rules_loss,
    rules_modality,
    rules_other,
    rules_rows,
)
from fusion_engine.testing.observe import Broken
from fusion_engine.testing.subject import Subject, find_kind, find_modality

Rule = Callable[[Subject], str | None]
"""Raises Broken where it does not hold; may return a remark."""

_NETWORK: dict[str, Rule] = {
    "signature": rules_build.signature,
    "declared-output": rules_declared.declared_output,
    "parameters-registered": rules_build.parameters_registered,
    "no-global-random": rules_build.no_global_random,
    "config-round-trip": rules_build.config_round_trip,
    "train-eval-agree": rules_rows.train_eval_agree,
    "row-independence": rules_rows.row_independence,
    "batch-of-one": rules_rows.batch_of_one,
}
_INPUTS: dict[str, Rule] = {
    **_NETWORK,
    "token-lengths": rules_rows.token_lengths,
    "missing-slots": rules_rows.missing_slots,
    "padding": rules_rows.padding,
    "nothing-present": rules_rows.nothing_present,
    "parameters-learn": rules_build.parameters_learn,
}
_CONSTRUCTS: dict[str, Rule] = {"constructs": rules_other.constructs}

RULES: dict[str, dict[str, Rule]] = {
    "modality": {
        "signature": rules_build.signature,
        "defaults": rules_modality.defaults,
        "example": rules_modality.example,
        "collate": rules_modality.collate,
        "prepare-restore": rules_modality.prepare_restore,
        "config-round-trip": rules_modality.config_round_trip,
        "blank": rules_modality.blank,
        "fit": rules_modality.fit,
        "refuses": rules_modality.refuses,
        "relax": rules_modality.relax,
        "augment": rules_modality.augment,
        "render": rules_modality.render,
    },
    "encoder": {
        **_NETWORK,
        "padding": rules_rows.padding,
        "nothing-present": rules_rows.nothing_present,
        "relaxed-input": rules_declared.relaxed_input,
        "parameters-learn": rules_build.parameters_learn,
        "double-backward": rules_declared.double_backward_works,
    },
    "fusion": _INPUTS,
    "posterior": _INPUTS,
    "prior": {**_NETWORK, "parameters-learn": rules_build.parameters_learn},
    "decoder": {
        **_NETWORK,
        "sample-axes": rules_rows.sample_axes,
        "likelihood-masked": rules_rows.likelihood_masked,
        "padding": rules_rows.padding,
        "parameters-learn": rules_build.parameters_learn,
    },
    "head": _INPUTS,
    "loss": {
        "signature": rules_build.signature,
        "players": rules_loss.players,
        "parameters-registered": rules_loss.parameters_registered,
        "no-global-random": rules_loss.no_global_random,
        "config-round-trip": rules_loss.config_round_trip,
        "counts": rules_loss.counts,
        "nothing-present": rules_loss.nothing_present,
        "missing-slots": rules_loss.missing_slots,
        "row-additive": rules_loss.row_additive,
        "parameters-learn": rules_loss.parameters_learn,
    },
    "recipe": {
        "signature": rules_build.signature,
        "config-round-trip": rules_other.recipe_round_trip,
        "builds-one": rules_other.builds_one,
        "builds-two": rules_other.builds_two,
    },
    "dataset": {
        "signature": rules_build.signature,
        "splits": rules_other.splits,
        "repeatable": rules_other.repeatable,
    },
    "metric": _CONSTRUCTS,
    "ensemble": {
        "constructs": rules_ensemble.constructs,
        "probabilities": rules_ensemble.probabilities,
        "repeatable": rules_ensemble.repeatable,
        "row-independence": rules_ensemble.row_independence,
        "abstention": rules_ensemble.abstention,
        "nothing-present": rules_ensemble.nothing_present,
        "classes-by-name": rules_ensemble.classes_by_name,
        "generates": rules_generators.generates,
        "generates-from-members": rules_generators.from_members,
        "generates-for-what-is-given": rules_generators.for_what_is_given,
        "generates-repeatably": rules_generators.repeatably,
    },
}
"""Every rule by kind and name, in the order in which they are tried."""


def rules(kind: str) -> tuple[str, ...]:
    """Name the rules that a kind of component keeps, in the order in which they are tried.

    Raises:
        FusionError: there is no such kind.
    """
    if kind not in RULES:
        raise FusionError(f"there is no kind {kind!r}", fix=nearest(kind, KINDS))
    return tuple(RULES[kind])


def explain(kind: str, rule: str) -> str:
    """Say in a sentence what a rule asks.

    Raises:
        FusionError: there is no such kind or rule.
    """
    if rule not in rules(kind):
        raise FusionError(f"a {kind} has no rule {rule!r}", fix=nearest(rule, rules(kind)))
    return (RULES[kind][rule].__doc__ or "").strip().splitlines()[0]


@runtime_checkable
class HasRegistry(Protocol):
    """An engine, as far as the kit needs one."""

    @property
    def registry(self) -> Registry:
        """Every component that can be named."""


@dataclass(frozen=True)
class Report:
    """What a component has proved.

    Args:
        name: of the component.
        kind: of the component.
        passed: rules that hold.
        skipped: rules that were not tried, each with the reason.
        remarks: what rules had to say although they hold.
    """

    name: str
    kind: str
    passed: tuple[str, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    remarks: Mapping[str, str] = field(default_factory=dict)


def check_component(
    component: Any,
    *,
    config: Mapping[str, Any] | None = None,
    modality: Modality | None = None,
    engine: HasRegistry | None = None,
    kind: str | None = None,
    only: Collection[str] | None = None,
    skip: Mapping[str, str] | None = None,
    players: Mapping[Player, Sequence[str]] | None = None,
) -> Report:
    """Prove every rule of the contracts for one component, the first that fails first.

    Args:
        component: its name (``fusion/my.gated``), its registry entry, its class, or a recipe's function.
        config: of the component; small sizes make the check fast.
        modality: to encode, decode or predict; by default a registered one of the family that it annotates.
        engine: where names are looked up; by default all installed plugins.
        kind: of a metric or an ensemble, which no base class tells.
        only: the rules to try.
        skip: rules to leave out, each with its reason.
        players: of the graph that a loss is given, where it needs others than the wiring tells.

    Raises:
        ContractError: a rule does not hold; ``rule`` names it.
        FusionError: the component cannot be found, or the arguments name what there is not.
    """
    registry = engine.registry if engine is not None else load_plugins().registry
    with _random_states_kept():
        subject = replace(_subject(component, config or {}, modality, registry, kind), players=players)
        known = rules(subject.kind)
        for rule in [*(only or ()), *(skip or {})]:
            explain(subject.kind, rule)
        wanted = [rule for rule in known if (only is None or rule in only) and rule not in (skip or {})]
        remarks = {rule: remark for rule in wanted if (remark := _hold(rule, subject)) is not None}
    return Report(subject.name, subject.kind, tuple(wanted), dict(skip or {}), remarks)


@contextmanager
def _random_states_kept() -> Iterator[None]:
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _subject(
    component: Any, config: Mapping[str, Any], modality: Modality | None, registry: Registry, kind: str | None
) -> Subject:
    if isinstance(component, str):
        component = registry.resolve(component, kind)
    target = component.load() if isinstance(component, Entry) else component
    kind = component.kind if isinstance(component, Entry) else kind or find_kind(target)
    name = component.full_name if isinstance(component, Entry) else f"{target.__module__}.{target.__qualname__}"
    bare = Subject(name, kind, target, config, registry, modality)
    if "signature" in RULES.get(kind, {}):
        _hold("signature", bare)
    complete = dict(config) if kind == "metric" else _complete(kind, target, config, name)
    if modality is None:
        modality = find_modality(kind, target, registry)
    return Subject(name, kind, target, complete, registry, modality)


def _complete(kind: str, target: Any, config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Fill in the defaults, and for a loss the heads of the kit's graph.

    Raises:
        ConfigError: a key without default is not given, or the config is wrong.
    """
    required = [key for key, f in config_model(target).model_fields.items() if f.is_required()]
    given = rules_loss.with_names(required, dict(config)) if kind == "loss" else config
    missing = [key for key in required if key not in given]
    if missing:
        example = ", ".join(f"{key!r}: ..." for key in missing)
        raise ConfigError(
            "its config has keys without a default, so the kit cannot choose them",
            where=name,
            expected=", ".join(missing),
            fix=f"give config={{{example}}}" + (f": {rules_loss.NODES}" if kind == "loss" else ""),
        )
    return validate_config(target, given, name)


def _hold(rule: str, subject: Subject) -> str | None:
    """Try one rule; whatever a component raises on the way breaks it.

    Raises:
        ContractError: it does not hold.
    """
    try:
        return RULES[subject.kind][rule](subject)
    except Broken as broken:
        raise ContractError(rule, broken.problem, where=subject.name, fix=broken.fix) from broken
    except Exception as error:
        line = author_line(error)
        problem = f"it raises {one_line(error)}" + (f" ({line})" if line else "")
        raise ContractError(rule, problem, where=subject.name, fix=_fix(error, subject, rule)) from error


SET_BY_BASES = ("inputs", "players", "widths", "modality", "latent", "outputs")
"""Attributes that the constructors of the abstract kinds set."""


def _fix(error: Exception, subject: Subject, rule: str) -> str:
    """Say that the constructor of the base class was never called, what the error itself advises, or the rule."""
    missing = ["before Module.__init__", *(f"has no attribute {name!r}" for name in SET_BY_BASES)]
    if isinstance(error, AttributeError) and any(text in str(error) for text in missing):
        return "call super().__init__(...) of the abstract kind first in its constructor"
    if isinstance(error, FusionError) and subject.kind == "loss":
        close = f"{error.fix}; " if error.fix and not error.fix.startswith("known: ") else ""
        return f"{close}give config=...: {rules_loss.NODES}"
    if isinstance(error, FusionError) and error.fix:
        return error.fix
    return explain(subject.kind, rule)
