"""What a graph can be asked for: everything that it cannot give is refused here, in words."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from fusion_engine.components import Modality
from fusion_engine.data import Table
from fusion_engine.errors import DataError, FusionError, nearest
from fusion_engine.graph import Graph

TRAINING = "training"
"""Names the priors that posteriors are trained with, where a fitted one exists too."""
FEATURES = ("encoder", "fusion", "posterior")
"""Kinds of nodes that have one vector a row."""


def read_table(data: Any, modalities: Mapping[str, Modality]) -> Table:
    """Read a table of which at least one column is a modality; other columns may stand beside, but no misspelt one.

    Raises:
        DataError: no column is a modality, or one is nearly the name of a modality that is missing.
    """
    table = data if isinstance(data, Table) else Table(data)
    absent = [m for m in modalities if m not in table.names]
    for column in table.names:
        close = get_close_matches(column, absent, n=1, cutoff=0.75) if column not in modalities else []
        if close:
            raise DataError(f"the model has no modality {column!r}", fix=f"did you mean {close[0]!r}?")
    if table.names and len(absent) == len(modalities):
        columns = ", ".join(table.names)
        raise DataError("no column is a modality of the model", expected=", ".join(absent), actual=columns)
    return table


def check_modality(modalities: Mapping[str, Modality], name: str) -> None:
    """Check that a name is a modality.

    Raises:
        DataError: it is not.
    """
    if name not in modalities:
        raise DataError(f"the model has no modality {name!r}", fix=nearest(name, modalities))


def check_columns(modalities: Mapping[str, Modality], given: Mapping[str, Any], n: int | None = None) -> None:
    """Check that every given name is a modality, and each column n long.

    Raises:
        DataError: one is not.
    """
    for name, column in given.items():
        check_modality(modalities, name)
        if n is not None and len(column) != n:
            raise DataError(f"{name!r} has another number of samples", expected=str(n), actual=str(len(column)))


def check_generation(graph: Graph, n: int, given: Mapping[str, Any]) -> None:
    """Check that n rows can be generated from what is given.

    Raises:
        DataError: n or a column does not fit. FusionError: as ``check_conditions``.
    """
    check_count(n, 1, "nothing to generate", "n")
    check_columns(graph.modalities, given, n)
    check_conditions(graph, given)


def check_interpolation(graph: Graph, steps: int) -> None:
    """Check that there are latents to go between, and enough steps.

    Raises:
        DataError: fewer than two steps. FusionError: there is no posterior.
    """
    check_count(steps, 2, "an interpolation has two ends", "steps")
    if not graph.wiring.of_kind("posterior"):
        raise FusionError("the model has no posterior, so there is nothing to interpolate", fix="use generate")


def reconstructed(graph: Graph, given: Sequence[str]) -> list[str]:
    """Name the modalities that the given ones reach.

    Raises:
        FusionError: they reach none.
    """
    names = [m for m in graph.modalities if reaches(graph, given, m)]
    if not names:
        raise FusionError("no decoder starts from the data, so nothing is reconstructed", fix="use generate")
    return names


def check_conditions(graph: Graph, given: Iterable[str]) -> None:
    """Check that there is a decoder with something to draw from, and that what is given conditions one.

    Posteriors give way to their priors.

    Raises:
        FusionError: there is none, or it does not.
    """
    made = set(decoded(graph)) - set(given)
    if not made:
        raise FusionError("the model has no decoder for what is not given", fix="use predict for what a head says")
    for name in given:
        if not conditions(graph, name, made):
            raise FusionError(
                f"{name!r} conditions nothing that is generated",
                fix="use translate: it infers the latents from what is given",
            )
    if not draws(graph, given):
        raise FusionError(
            "the model has no posterior or prior, so generation has nothing to draw from",
            actual=f"what decodes starts from the data: {', '.join(sorted(made))}",
            fix="use translate, reconstruct or impute; recipes 'aae' and 'vae' train a code that can be drawn",
        )


def draws(graph: Graph, given: Iterable[str] = ()) -> bool:
    """Whether any decoder of what is not given starts from a posterior or prior, or from what is given."""
    wiring, known = graph.wiring, set(given)
    above = (wiring.ancestors(str(wiring.decoder_of(m))) for m in set(decoded(graph)) - known)
    return any(known & names or any(wiring.kind(n) in ("posterior", "prior") for n in names) for names in above)


def decoded(graph: Graph) -> list[str]:
    """The modalities that have a decoder."""
    return [m for m in graph.modalities if graph.wiring.decoder_of(m) is not None]


def conditions(graph: Graph, modality: str, made: Iterable[str]) -> bool:
    """Whether a modality conditions the decoder of any of the others, also where posteriors give way to priors."""
    decoders = (graph.wiring.decoder_of(m) for m in made if m != modality)
    return any(d is not None and modality in graph.wiring.conditions(d) for d in decoders)


def reaches(graph: Graph, given: Iterable[str], modality: str) -> bool:
    """Whether a modality can be made from any of the given ones (from any at all where none is given)."""
    decoder = graph.wiring.decoder_of(modality)
    known = [m for m in given if m in graph.modalities] or list(graph.modalities)
    return decoder is not None and not graph.wiring.ancestors(decoder).isdisjoint(known)


def check_translation(graph: Graph, given: Sequence[str], to: Iterable[str]) -> None:
    """Check that what is given reaches a decoder of each of the modalities wanted.

    Raises:
        DataError: one is no modality. FusionError: it has no decoder, or nothing reaches that.
    """
    for name in to:
        check_modality(graph.modalities, name)
        decoder(graph, name)
        if not reaches(graph, given, name):
            known = ", ".join(n for n in given if n in graph.modalities)
            raise FusionError(f"nothing of {known} reaches the decoder of {name!r}", fix="use generate: it draws")


def decoder(graph: Graph, modality: str) -> str:
    """Find the decoder of a modality.

    Raises:
        FusionError: there is none.
    """
    found = graph.wiring.decoder_of(modality)
    if found is None:
        raise FusionError(
            f"the model has no decoder for {modality!r}",
            expected="one of: " + ", ".join(decoded(graph)),
            fix="use predict for what a head says",
        )
    return found


def posteriors(graph: Graph, names: str | Sequence[str] = ()) -> tuple[str, ...]:
    """Check the names of posteriors; none means all.

    Raises:
        FusionError: the graph has no such posterior, or none at all.
    """
    known = graph.wiring.of_kind("posterior")
    wanted = ((names,) if isinstance(names, str) else tuple(names)) or known
    for name in wanted or ("",):
        if name not in known:
            raise FusionError(f"the model has no posterior {name!r}", fix=nearest(name, known))
    return wanted


def check_features(graph: Graph, node: str) -> None:
    """Check that a node has features.

    Raises:
        FusionError: there is no such node, or it has none.
    """
    known = [n for kind in FEATURES for n in graph.wiring.of_kind(kind)]
    if node not in known:
        raise FusionError(f"the model has no node {node!r} with features", fix=nearest(node, known))


def fitted_priors(graph: Graph, name: str | None) -> list[str]:
    """Choose the fitted priors to draw from: by default those that are fitted, by ``TRAINING`` none.

    Raises:
        FusionError: there is no such prior.
    """
    fitted = graph.fitted_priors()
    if name is None:
        return [n for n in fitted if bool(getattr(graph[n], "fitted", True))]
    if name == TRAINING:
        return []
    if name not in fitted:
        raise FusionError(f"there is no fitted prior {name!r}", fix=nearest(name, [TRAINING, *fitted]))
    return [name]


def heads(graph: Graph) -> dict[str, str]:
    """Every predicting head and what it predicts, in the order of the config."""
    nodes = graph.wiring.nodes
    return {n: str(node.out) for n, node in nodes.items() if node.kind == "head" and node.out}


def head_of(graph: Graph, name: str | None) -> str:
    """Choose a predicting head, the first where none is named.

    Raises:
        FusionError: there is no such head.
    """
    known = heads(graph)
    if not known:
        raise FusionError(
            "the model has no head that predicts",
            expected="a head with 'out'" if name is None else f"the head {name!r}, with 'out'",
            actual="heads: " + (", ".join(graph.wiring.of_kind("head")) or "none"),
            fix="add one, such as {use: head/classification, in: ..., out: label}; decoders are asked by translate",
        )
    chosen = name or next(iter(known))
    if chosen not in known:
        raise FusionError(f"the model has no predicting head {chosen!r}", fix=nearest(chosen, known))
    return chosen


def check_count(n: int, least: int, what: str, of: str) -> None:
    """Check that a number is large enough.

    Raises:
        DataError: it is not; the message begins with ``what``.
    """
    if n < least:
        raise DataError(what, expected=f"{of} of at least {least}", actual=str(n))


def check_choice(what: str, chosen: str, known: Sequence[str]) -> None:
    """Check that a word is one of several.

    Raises:
        FusionError: it is not.
    """
    if chosen not in known:
        raise FusionError(f"there is no {what} {chosen!r}", fix=nearest(chosen, known))


def gaps(modalities: Iterable[str], table: Table) -> list[set[str]]:
    """Name what each row lacks."""
    return [{m for m in modalities if table[i].get(m) is None} for i in range(len(table))]


def fillers(graph: Graph, given: Sequence[str], lacking: Iterable[set[str]]) -> dict[str, str | None]:
    """Choose what fills each modality that rows lack: None for its decoder, else the first head that predicts it.

    What neither can fill is left out.

    Raises:
        FusionError: that is all that is lacking.
    """
    missing = set[str]().union(*lacking)
    names = [m for m in graph.modalities if m in missing]
    first = {m: head for head, m in reversed(heads(graph).items())}
    found = {m: None if reaches(graph, given, m) else first[m] for m in names if m in first or reaches(graph, given, m)}
    if names and not found:
        raise FusionError(f"no decoder or head makes {', '.join(names)} from the rows", fix="use generate: it draws")
    return found
