"""From a config to a graph: components looked up and configured, nodes constructed in order, losses last."""

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, NoReturn, cast, get_type_hints

import torch
from torch import nn

from fusion_engine.components import (
    Decoder,
    Encoder,
    Fusion,
    Head,
    Modality,
    PosteriorNetwork,
    PosteriorPrior,
    Prior,
    TakesFeatures,
)
from fusion_engine.config import NodeConfig, Part, RunConfig
from fusion_engine.errors import BuildError, ConfigError, FusionError, PluginError, author_line, nearest, one_line
from fusion_engine.graph import Graph
from fusion_engine.losses import Loss, check_rows
from fusion_engine.noise import Noise
from fusion_engine.plugins import Registry
from fusion_engine.probe import probe
from fusion_engine.signature import construct_kwargs, validate_config
from fusion_engine.spectral import normalise
from fusion_engine.values import Widths
from fusion_engine.wiring import Node, match, wire


def complete(config: RunConfig, registry: Registry) -> RunConfig:
    """Fill in every default and every full component name, and check each part's config.

    Raises:
        ConfigError: a key is unknown, a value has the wrong type or is out of range; the message has its place.
    """

    def part(kind: str, where: str, given: Part) -> dict[str, Any]:
        entry = registry.resolve(given.use, kind or None)
        values = validate_config(entry.load(), given.with_, where)
        return {"use": entry.full_name, "with": values}

    plain = config.plain()
    plain["modalities"] = {m: part("modality", f"modality {m!r}", p) for m, p in config.modalities.items()}
    nodes = {n: part("", f"node {n!r}", p) for n, p in config.nodes.items() if not p.of}
    nodes |= {n: part("", f"node {n!r}", _with_latent(nodes, p)) for n, p in config.nodes.items() if p.of}
    plain["nodes"] = {n: {**plain["nodes"][n], **nodes[n]} for n in config.nodes}
    plain["losses"] = {n: {**plain["losses"][n], **part("loss", f"loss {n!r}", p)} for n, p in config.losses.items()}
    if config.data is not None:
        plain["data"] = part("dataset", "data", config.data)
    return RunConfig.model_validate(plain)


def _with_latent(completed: Mapping[str, Any], node: NodeConfig) -> NodeConfig:
    """Give a prior that is fitted to posteriors the width of their latents."""
    names = [node.of] if isinstance(node.of, str) else node.of or []
    widths = [completed[n]["with"].get("latent") for n in names]
    if "latent" in node.with_ or None in widths:
        return node
    return node.model_copy(update={"with_": {**node.with_, "latent": sum(widths)}})


def build_modalities(config: RunConfig, registry: Registry) -> dict[str, Modality]:
    """Construct the modalities of a completed config."""
    return {
        name: cast(
            Modality, _construct(f"modality {name!r}", registry.resolve(part.use, "modality").load(), part.with_)
        )
        for name, part in config.modalities.items()
    }


def _construct(where: str, target: Any, values: Mapping[str, Any], *wiring: Any) -> Any:
    kwargs = construct_kwargs(target, values, where)
    try:
        return target(*wiring, **kwargs)
    except FusionError as error:
        place = where if error.where is None else f"{where}, {error.where}"
        raise type(error)(
            error.problem, where=place, expected=error.expected, actual=error.actual, fix=error.fix
        ) from error
    except Exception as error:
        raise BuildError(
            f"{target.__name__} cannot be constructed: {one_line(error)}",
            where=where,
            actual=f"raised at {author_line(error)}",
            fix="check its config and its inputs, or mend that line",
        ) from error


def build(config: RunConfig, registry: Registry) -> Graph:
    """Build and probe the graph of a completed config. Weights are a function of the seed and each node's name.

    Raises:
        FusionError: what is wrong with it, naming node, port, expected, actual and a fix.
    """
    wiring = wire(config, registry)
    graph = Graph(wiring, build_modalities(config, registry))
    seed = Noise.of(1, config.train.seed)
    with torch.random.fork_rng(devices=[]):
        for name in wiring.order:
            torch.manual_seed(seed.at("weights", name).key)
            module = _node(graph, wiring.nodes[name], registry, config.nodes[name].with_)
            if config.nodes[name].spectral_norm:
                normalise(module, f"node {name!r}, 'spectral_norm'")
            graph.add(name, module)
        _check_priors(graph)
        for name, part in config.losses.items():
            _check_score(graph, name, part.with_.get("score"))
            loss = _construct(f"loss {name!r}", registry.resolve(part.use, "loss").load(), part.with_, graph)
            loss.relative_to = part.relative_to
            graph.add_loss(name, loss)
    _check_stages(config, graph)
    _check_read(config, graph, probe(graph))
    return graph


def _check_stages(config: RunConfig, graph: Graph) -> None:
    """Refuse a stage in which no active loss has a player whose nodes learn, or whose batches are too small for one."""
    for stage in config.stages:
        check_rows(graph, stage.losses, config.train.batch_size, config.train.accumulate)
        learn = match(stage.learn, graph.wiring.nodes, f"stage {stage.name!r}, 'learn'")
        players = {player for name in stage.losses for player in cast(Loss, graph.loss(name)).players}
        owned = {player: list(graph.parameters_of(learn & graph.owners(player))) for player in players}
        if not any(owned.values()):
            raise ConfigError(
                "the stage has nothing to learn",
                where=f"stage {stage.name!r}",
                expected=" or ".join(
                    f"nodes of the {p}: {', '.join(sorted(graph.owners(p)))}" for p in sorted(players)
                ),
                actual=f"learn: {stage.learn}",
                fix="widen 'learn', or name a loss of a player whose nodes learn",
            )


def _check_read(config: RunConfig, graph: Graph, asked: Collection[str]) -> None:
    """Refuse a node that training could never reach: no node takes it, no loss names it or has asked for it.

    A graph without stages may end in any features; so may one with them, where nothing in that end is to be learned.
    """
    nodes = graph.wiring.nodes if config.stages else {}
    read = {s for node in nodes.values() for s in (*node.sources, *node.of)} | {
        n for n, node in nodes.items() if node.of
    }
    read |= {n for part in config.losses.values() for text in _texts(part.with_) for n in nodes if fnmatchcase(n, text)}
    for name in [n for n in graph.wiring.order if n in nodes and n not in read and n not in asked]:
        kind = graph.wiring.kind(name)
        if kind == "prior" or (kind in ("encoder", "fusion") and any(True for _ in graph[name].parameters())):
            raise ConfigError(
                f"the node {name!r} is read by nothing: no node takes it and no loss names it",
                where=f"node {name!r}",
                fix=_way_out(graph, name),
            )


def _way_out(graph: Graph, name: str) -> str:
    """Say what becomes of a node that nothing reads."""
    module = graph[name]
    if not isinstance(module, Prior):
        return "wire it into a node, name it in a loss, or remove it"
    posterior = next(iter(graph.wiring.of_kind("posterior")), None)
    of = f"add 'of: {posterior}', " if posterior and (module.fits or module.trains) else ""
    return f"wire it into a decoder, {of}or remove it"


def _texts(value: Any) -> Iterator[str]:
    """Find all text in a config."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for inner in [*value, *value.values()] if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def _node(graph: Graph, node: Node, registry: Registry, values: Mapping[str, Any]) -> nn.Module:
    target = registry.resolve(node.use, node.kind).load()
    where = f"node {node.name!r}"
    if node.kind == "encoder":
        source = node.ports["in"][0]
        modality = source if source in graph.modalities else str(graph.wiring.nodes[source].out)
        _check_family(graph, target, modality, f"{where}, port 'in'", node.kind, registry)
        return cast(Encoder, _construct(where, target, values, graph.modalities[modality]))
    if node.kind == "prior":
        return _prior(graph, node, target, values)
    if node.kind == "decoder":
        _check_family(graph, target, str(node.out), f"{where}, port 'out'", node.kind, registry)
        latent = sum(widths_of(graph, s).pooled for s in node.ports["z"])
        conditions = {port: widths_of(graph, names[0]) for port, names in node.ports.items() if port != "z"}
        return cast(Decoder, _construct(where, target, values, latent, graph.modalities[str(node.out)], conditions))
    inputs = {s: widths_of(graph, s) for s in node.ports["in"]}
    _check_number(target, len(inputs), where)
    if node.kind == "head":
        return _head(graph, node, target, registry, values, inputs)
    return cast(nn.Module, _construct(where, target, values, inputs))


def _prior(graph: Graph, node: Node, target: type[Prior], values: Mapping[str, Any]) -> Prior:
    where = f"node {node.name!r}"
    _check_of(node, target)
    made_of = issubclass(target, PosteriorPrior)
    wiring = [graph.posterior(n).inputs for n in node.of] if made_of else []
    prior = cast(Prior, _construct(where, target, values, *wiring))
    width = sum(_latent_of(graph, n) for n in node.of)
    if node.of and width != prior.latent:
        raise BuildError(
            "the prior is not as wide as the latents it is of",
            where=where,
            expected=f"latent: {width}",
            actual=f"latent: {prior.latent}",
            fix="leave 'latent' out",
        )
    return prior


def _check_of(node: Node, target: type[Prior]) -> None:
    """Check that a prior can be what its ``of`` makes of it: fitted to latents, or trained with one posterior."""

    def refuse(problem: str, fix: str, expected: str | None = None, actual: str | None = None) -> NoReturn:
        raise BuildError(problem, where=f"node {node.name!r}, port 'of'", expected=expected, actual=actual, fix=fix)

    if not node.of and issubclass(target, PosteriorPrior):
        refuse(f"{node.use} is made of a posterior", "add 'of' with a posterior", actual="no 'of'")
    if node.of and not (target.fits or target.trains):
        refuse(
            f"{node.use} has nothing to fit and nothing to train",
            "remove 'of', or use prior/mixture, prior/fitted_flow, prior/flow or prior/vamp",
            "a prior that fits latents after training, or that trains with a posterior",
        )
    if len(node.of) > 1 and target.trains:
        refuse("a prior trains with one posterior", "one node each", actual=", ".join(node.of))


def _check_priors(graph: Graph) -> None:
    """Check that at most one prior trains with each posterior, and that what learns belongs to a player."""
    for posterior in graph.wiring.of_kind("posterior"):
        priors = graph.trained_priors(posterior)
        if len(priors) > 1:
            raise BuildError(
                f"two priors train with {posterior!r}",
                where=f"node {priors[1]!r}, port 'of'",
                expected="one",
                actual=", ".join(priors),
                fix="remove one",
            )
    owned = graph.owners("generator") | graph.owners("discriminator")
    for name in graph.wiring.of_kind("prior"):
        if name not in owned and any(True for _ in graph[name].parameters()):
            raise ConfigError(
                f"the prior {name!r} belongs to no player, so it would never learn",
                where="players",
                fix="name it under the player that its posterior belongs to",
            )


def _latent_of(graph: Graph, posterior: str) -> int:
    return graph.posterior(posterior).latent


def _head(
    graph: Graph,
    node: Node,
    target: type[Head],
    registry: Registry,
    values: Mapping[str, Any],
    inputs: Mapping[str, Widths],
) -> Head:
    where = f"node {node.name!r}"
    if target.predicts and node.out is None:
        raise BuildError(f"{node.use} does not know what to predict", where=where, fix="add 'out' with a modality")
    if not target.predicts and node.out is not None:
        raise BuildError(f"{node.use} predicts no modality", where=f"{where}, port 'out'", fix="remove 'out'")
    if node.out is not None:
        _check_family(graph, target, node.out, f"{where}, port 'out'", node.kind, registry)
    return cast(Head, _construct(where, target, values, inputs, graph.modalities[node.out] if node.out else None))


def _check_score(graph: Graph, loss: str, score: str | None) -> None:
    """Check that a loss plays on a head that scores realness."""
    if score is not None and not cast(Head, graph[score]).realness:
        scores = [n for n in graph.wiring.of_kind("head") if cast(Head, graph[n]).realness]
        raise BuildError(
            f"the head {score!r} does not score how real its input is",
            where=f"loss {loss!r}, 'score'",
            expected="a head such as head/score",
            actual=graph.wiring.nodes[score].use,
            fix=nearest(score, scores),
        )


def widths_of(graph: Graph, name: str) -> Widths:
    """The widths of a node's output as features: a posterior's and a prior's are its latent."""
    module = graph[name]
    if isinstance(module, Encoder | Fusion):
        return module.widths
    if isinstance(module, PosteriorNetwork | Prior):
        return Widths(module.latent, module.latent)
    raise BuildError(f"the node {name!r} has no features")


def _heads_for(modality: Modality, registry: Registry) -> list[str]:
    """Name the heads that predict such a modality; those that cannot be loaded are not among them."""
    found = []
    for entry in registry.of("head"):
        try:
            family = _family(entry.load())
        except (PluginError, NameError, TypeError):
            continue
        if isinstance(family, type) and isinstance(modality, family):
            found.append(entry.full_name)
    return found


def _family(target: type) -> Any:
    """The class of modalities that a component's annotation names, if it names one."""
    return get_type_hints(target.__init__).get("modality")


def _check_family(graph: Graph, target: type, modality: str, where: str, kind: str, registry: Registry) -> None:
    """Check a component's annotation of its modality before it is constructed."""
    family, actual = _family(target), graph.modalities[modality]
    if isinstance(family, type) and not isinstance(actual, family):
        raise BuildError(
            f"{target.__name__} does not fit the modality {modality!r}",
            where=where,
            expected=family.__name__,
            actual=f"{type(actual).__name__}, {graph.wiring.modalities[modality]}",
            fix=_fitting(graph, modality, family, kind, registry),
        )


def _fitting(graph: Graph, modality: str, family: type, kind: str, registry: Registry) -> str:
    """Say what to write instead of a component of a family that the modality does not belong to."""
    actual = graph.modalities[modality]
    if kind != "head":
        return f"use a component for it, such as {type(actual).encoder if kind == 'encoder' else type(actual).decoder}"
    heads = ", ".join(_heads_for(actual, registry))
    others = " or ".join(name for name, found in graph.modalities.items() if isinstance(found, family))
    fixes = [f"use a head for it: {heads}"] if heads else []
    fixes += [f"name what this head predicts: out: {others}"] if others else []
    return ", or ".join(fixes) or "remove the node: no head predicts such a modality"


def _check_number(target: type[TakesFeatures], number: int, where: str) -> None:
    low, high = target.min_inputs, target.max_inputs
    if number < low or (high is not None and number > high):
        expected = f"{low} or more" if high is None else f"{low} to {high}"
        raise ConfigError(
            f"{target.__name__} takes another number of inputs",
            where=f"{where}, port 'in'",
            expected=expected,
            actual=str(number),
        )
