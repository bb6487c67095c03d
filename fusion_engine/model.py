"""A fused model: fit it, generate, translate, reconstruct, impute, predict, save."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine.artefact import write_artefact
from fusion_engine.build import build, complete
from fusion_engine.components import Head, Modality
from fusion_engine.config import RunConfig
from fusion_engine.data import Prepared, Table, collate
from fusion_engine.errors import DataError, FusionError, nearest
from fusion_engine.graph import Graph
from fusion_engine.losses import Loss
from fusion_engine.noise import Noise
from fusion_engine.plugins import Plugins
from fusion_engine.run import Run, fitted_draws, prior_draw
from fusion_engine.training import Callback, Trainer
from fusion_engine.training.trainer import Progress
from fusion_engine.values import Batch, Posterior, Signal

CHUNK = 256
"""Rows evaluated at once when no gradient is needed."""
TRAINING = "training"
"""Names the priors that posteriors are trained with, where a fitted one exists too."""


@dataclass(frozen=True)
class Context:
    """What hooks are told: the plugins, and the config as it was completed."""

    plugins: Plugins
    config: RunConfig


class FusionModel:
    """A config and its graph. Make one with ``Engine.build``, ``Engine.recipe`` or ``Engine.load``.

    Args:
        config: completed; every default filled in.
        graph: built from it.
        plugins: where its components come from.
    """

    def __init__(self, config: RunConfig, graph: Graph, plugins: Plugins) -> None:
        self.config, self.graph, self.plugins = config, graph, plugins
        self.metrics: dict[str, Any] = {}
        self.progress = Progress()
        self.graph.eval()

    @property
    def modalities(self) -> dict[str, Modality]:
        """The modalities, fitted once ``fit`` has seen data."""
        return self.graph.modalities

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((p.device for p in self.graph.parameters()), torch.device("cpu"))

    # Training

    def prepare(self, data: Any) -> Prepared:
        """Check data against the modalities, learn their config from it (shapes, classes ...), build the graph for it.

        Raises:
            DataError: a column is missing, samples do not fit together.
        """
        table = data if isinstance(data, Table) else Table(data)
        table.check(list(self.modalities))
        learned = {name: _learned(name, modality, table) for name, modality in self.modalities.items()}
        plain = self.config.plain()
        for name, values in learned.items():
            plain["modalities"][name]["with"] |= values
        config = complete(RunConfig.model_validate(plain), self.plugins.registry)
        if config != self.config:
            self.config, self.graph = config, build(config, self.plugins.registry)
            self.plugins.call("graph_built", graph=self.graph, context=Context(self.plugins, config))
        return Prepared(table, self.modalities)

    def fit(
        self,
        data: Any,
        *,
        directory: str | Path | None = None,
        resume: bool = False,
        callbacks: Sequence[Callback] = (),
        fabric: Any = None,
    ) -> "FusionModel":
        """Train through all stages, then fit the priors that are fitted to latents.

        An interrupt (Ctrl-C) ends training early and leaves a usable model.

        Args:
            data: a table (columns, data frame, rows, Dataset); gaps are missing samples.
            directory: where checkpoints go, every ``train.checkpoint_every`` steps.
            resume: go on from the checkpoint there.
            callbacks: called at fixed moments of training.
            fabric: a ``lightning_fabric.Fabric`` for other devices or several processes.

        Raises:
            DataError: the data does not fit. TrainingError: NaN, or nothing to learn.
        """
        if not self.config.stages:
            raise FusionError("the config has no stages, so there is nothing to train", fix="add stages")
        rows = self.prepare(data)
        context = Context(self.plugins, self.config)
        extra = self.plugins.call("configure_callbacks", model=self, config=self.config, context=context)
        own = [
            _FittedPriors(self, rows),
            _Stages(self, context),
            *callbacks,
            *(c for found in extra for c in found or []),
        ]
        where = None if directory is None else Path(directory)
        trainer = Trainer(self.graph, self.config, rows, directory=where, callbacks=own, fabric=fabric)
        self.progress = trainer.fit(resume=resume)
        self.metrics["interrupted"] = trainer.interrupted
        self.fit_priors(rows)
        return self

    def fit_priors(self, rows: Prepared) -> None:
        """Fit every prior that is wired ``of`` posteriors to draws from them on the given rows."""
        training = {module: module.training for module in self.graph.modules()}
        for name, posteriors in self.graph.fitted_priors().items():
            z = self.latents(rows, posteriors, sample=True)
            prior = cast(Any, self.graph[name])
            prior.fit(z.to(self.device))
        for module, mode in training.items():
            module.training = mode

    # Evaluation

    @torch.no_grad()
    def runs(self, rows: Prepared | Any, *, sample: bool = False, seed: int = 0) -> Iterator[Run]:
        """Yield a run for every chunk of rows; gaps stay gaps.

        Args:
            rows: prepared rows, or a table.
            sample: draw z from the posteriors, else take the mean.
            seed: of those draws.
        """
        prepared = rows if isinstance(rows, Prepared) else Prepared(self._table(rows), self.modalities)
        self.graph.eval()
        for start in range(0, len(prepared), CHUNK):
            index = range(start, min(start + CHUNK, len(prepared)))
            batch = collate([prepared[i] for i in index], self.modalities).to(self.device)
            yield Run(self.graph, batch, noise=self._noise(batch, seed, start), sample=sample)

    def _table(self, data: Any) -> Table:
        """Read a table of which at least one column is a modality; other columns may stand beside, but no misspelt one.

        Raises:
            DataError: no column is a modality, or one is nearly the name of a modality that is missing.
        """
        table = data if isinstance(data, Table) else Table(data)
        absent = [m for m in self.modalities if m not in table.names]
        for column in table.names:
            close = get_close_matches(column, absent, n=1, cutoff=0.75) if column not in self.modalities else []
            if close:
                raise DataError(f"the model has no modality {column!r}", fix=f"did you mean {close[0]!r}?")
        if table.names and len(absent) == len(self.modalities):
            columns = ", ".join(table.names)
            raise DataError("no column is a modality of the model", expected=", ".join(absent), actual=columns)
        return table

    def reaches(self, given: Iterable[str], modality: str) -> bool:
        """Whether a modality can be made from any of the given ones (from any at all where none is given)."""
        decoder = self.graph.wiring.decoder_of(modality)
        known = [m for m in given if m in self.modalities] or list(self.modalities)
        return decoder is not None and not self.graph.wiring.ancestors(decoder).isdisjoint(known)

    def _noise(self, batch: Batch, seed: int, start: int) -> Noise:
        return Noise(0, batch.index, batch.total).at("use", seed, start)

    @torch.no_grad()
    def latents(
        self, data: Any, posteriors: str | Sequence[str] = (), *, sample: bool = False, seed: int = 0
    ) -> Float[Tensor, "b z"]:
        """Infer z of each row from what it has; several posteriors are concatenated.

        Raises:
            FusionError: the model has no such posterior.
        """
        known = self.graph.wiring.of_kind("posterior")
        names = ((posteriors,) if isinstance(posteriors, str) else tuple(posteriors)) or known
        for name in names or ("",):
            if name not in known:
                raise FusionError(f"the model has no posterior {name!r}", fix=nearest(name, known))
        found = []
        for run in self.runs(data, sample=sample, seed=seed):
            found.append(torch.cat([run.one(n).z for n in names], -1))
        return torch.cat(found)

    @torch.no_grad()
    def features(self, data: Any, node: str) -> Float[Tensor, "b d"]:
        """Return the pooled vector of an encoder, a fusion or a posterior (its z) for each row.

        A row that has nothing the node reads gets what the node makes of nothing, such as zeros.

        Raises:
            FusionError: the model has no such node.
        """
        known = [n for kind in ("encoder", "fusion", "posterior") for n in self.graph.wiring.of_kind(kind)]
        if node not in known:
            raise FusionError(f"the model has no node {node!r} with features", fix=nearest(node, known))
        return torch.cat([run.features(node).pooled for run in self.runs(data)])

    def _empty(self, n: int) -> Prepared:
        return Prepared([{} for _ in range(n)], self.modalities)

    def _priors(self, prior: str | None) -> list[str]:
        fitted = self.graph.fitted_priors()
        if prior is None:
            return [name for name in fitted if bool(getattr(self.graph[name], "fitted", True))]
        if prior == TRAINING:
            return []
        if prior not in fitted:
            raise FusionError(f"there is no fitted prior {prior!r}", fix=nearest(prior, [TRAINING, *fitted]))
        return [prior]

    def _draws(self, run: Run, prior: str | None) -> dict[str, Posterior]:
        """Draw z of every posterior from its fitted prior, or from the one it is trained with."""
        b, noise = len(run.batch), run.noise("generate")
        wiring = self.graph.wiring
        draws = {p: prior_draw(self.graph, p, b, noise.at(p)) for p in wiring.of_kind("posterior")}
        draws |= fitted_draws(self.graph, self._priors(prior), b, noise)
        return draws

    @torch.no_grad()
    def generated_signals(
        self,
        n: int,
        *,
        given: Mapping[str, Sequence[Any]] | None = None,
        prior: str | None = None,
        seed: int = 0,
        sample: bool = False,
    ) -> dict[str, Signal]:
        """Like ``generate``, but return signals."""
        if n < 1:
            raise DataError("nothing to generate", expected="n of at least 1", actual=str(n))
        self.check_names(given or {}, n)
        self._check_conditions(given or {})
        rows = [{name: column[i] for name, column in (given or {}).items()} for i in range(n)]
        found: dict[str, list[Signal]] = {}
        for run in self.runs(Prepared(rows, self.modalities) if given else self._empty(n), seed=seed):
            everywhere = torch.ones(len(run.batch), dtype=torch.bool, device=self.device)
            draws = self._draws(run, prior)
            replay = run.replay(draws, present=dict.fromkeys(draws, everywhere))
            for modality in self.modalities:
                decoder = self.graph.wiring.decoder_of(modality)
                if decoder is not None and modality not in (given or {}):
                    found.setdefault(modality, []).append(_decoded(replay, decoder, sample))
        return {m: join(signals) for m, signals in found.items()}

    def generate(
        self,
        n: int,
        *,
        given: Mapping[str, Sequence[Any]] | None = None,
        prior: str | None = None,
        seed: int = 0,
        sample: bool = False,
    ) -> dict[str, list[Any]]:
        """Generate n rows of every modality that has a decoder.

        Args:
            n: how many.
            given: raw samples of conditioning modalities, n each.
            prior: a fitted prior's node name, or "training"; by default a fitted one where there is one.
            seed: of the draws.
            sample: draw from the likelihoods, else take their means.
        """
        signals = self.generated_signals(n, given=given, prior=prior, seed=seed, sample=sample)
        return {m: self.modalities[m].restore(s) for m, s in signals.items()}

    def check_names(self, given: Mapping[str, Any], n: int | None = None) -> None:
        """Check that every given name is a modality, and each column n long.

        Raises:
            DataError: one is not.
        """
        for name, column in given.items():
            if name not in self.modalities:
                raise DataError(f"the model has no modality {name!r}", fix=nearest(name, self.modalities))
            if n is not None and len(column) != n:
                raise DataError(f"{name!r} has another number of samples", expected=str(n), actual=str(len(column)))

    def _check_conditions(self, given: Mapping[str, Any]) -> None:
        """Check that there is a decoder, and that what is given conditions one: posteriors give way to their priors."""
        wiring = self.graph.wiring
        made = {m: d for m in self.modalities if (d := wiring.decoder_of(m)) is not None and m not in given}
        if not made:
            raise FusionError("the model has no decoder for what is not given", fix="use predict for what a head says")
        for name in given:
            if not any(name in wiring.conditions(d) for d in made.values()):
                raise FusionError(
                    f"{name!r} conditions nothing that is generated",
                    fix="use translate: it infers the latents from what is given",
                )

    @torch.no_grad()
    def translated_signals(
        self, data: Any, to: Sequence[str], *, sample: bool = False, seed: int = 0
    ) -> dict[str, Signal]:
        """Like ``translate``, but return signals; the data may be prepared rows of some modalities."""
        rows = data if isinstance(data, Prepared) else self._table(data)
        names = tuple(rows.modalities) if isinstance(rows, Prepared) else rows.names
        found: dict[str, list[Signal]] = {name: [] for name in to}
        for name in to:
            if name not in self.modalities:
                raise DataError(f"the model has no modality {name!r}", fix=nearest(name, self.modalities))
            self._decoder(name)
            if not self.reaches(names, name):
                given = ", ".join(n for n in names if n in self.modalities)
                raise FusionError(f"nothing of {given} reaches the decoder of {name!r}", fix="use generate: it draws")
        for run in self.runs(rows, sample=sample, seed=seed):
            one = self._ones(run)
            for name in to:
                found[name].append(_decoded(one, self._decoder(name), sample))
        return {m: join(signals) for m, signals in found.items()}

    def _decoder(self, modality: str) -> str:
        decoder = self.graph.wiring.decoder_of(modality)
        if decoder is None:
            made = [m for m in self.modalities if self.graph.wiring.decoder_of(m)]
            raise FusionError(
                f"the model has no decoder for {modality!r}",
                expected="one of: " + ", ".join(made),
                fix="use predict for what a head says",
            )
        return decoder

    def _ones(self, run: Run) -> Run:
        """Keep one component of each posterior, and let every decoder work, also on rows that have nothing."""
        return run.replay({p: run.one(p) for p in self.graph.wiring.of_kind("posterior")})

    def translate(self, given: Any, to: str | Sequence[str], *, sample: bool = False, seed: int = 0) -> Any:
        """Translate any modalities into any others.

        Args:
            given: a table, such as raw samples by modality, all of one length; None where a row lacks one.
            to: one modality, whose samples are returned as a list, or several, returned by name.
            sample: draw z and the samples instead of taking means.
            seed: of those draws.
        """
        table = Table(given)
        self.check_names(dict.fromkeys(table.names))
        names = [to] if isinstance(to, str) else list(to)
        signals = self.translated_signals(table, names, sample=sample, seed=seed)
        raw = {m: self.modalities[m].restore(s) for m, s in signals.items()}
        return raw[to] if isinstance(to, str) else raw

    @torch.no_grad()
    def interpolated_signals(
        self, first: Mapping[str, Any], last: Mapping[str, Any], to: Sequence[str], *, steps: int = 8
    ) -> dict[str, Signal]:
        """Like ``interpolate``, but return signals."""
        if steps < 2:
            raise DataError("an interpolation has two ends", expected="steps of at least 2", actual=str(steps))
        posteriors = self.graph.wiring.of_kind("posterior")
        if not posteriors:
            raise FusionError("the model has no posterior, so there is nothing to interpolate", fix="use generate")
        share = torch.linspace(0, 1, steps, device=self.device)[:, None]
        (run,) = self.runs(self._table([first, last]))
        ends = {p: cast(Posterior, run[p]).one(None).z for p in posteriors}
        (empty,) = self.runs(self._empty(steps))
        path = {
            p: prior_draw(self.graph, p, steps, empty.noise("path", p)).with_z((1 - share) * z[:1] + share * z[1:])
            for p, z in ends.items()
        }
        everywhere = torch.ones(steps, dtype=torch.bool, device=self.device)
        replay = empty.replay(path, present=dict.fromkeys(path, everywhere))
        return {m: _decoded(replay, self._decoder(m), False) for m in to}

    def interpolate(
        self, first: Mapping[str, Any], last: Mapping[str, Any], to: str | Sequence[str], *, steps: int = 8
    ) -> Any:
        """Decode what lies between two rows, on the straight line between their latents' means; conditions are absent.

        Args:
            first: raw samples by modality, any that the row has.
            last: the same for the other end.
            to: one modality, whose samples are returned as a list, or several, returned by name.
            steps: how many, both ends included.

        Raises:
            FusionError: the model has no posterior, or no such decoder. DataError: fewer than two steps.
        """
        names = [to] if isinstance(to, str) else list(to)
        signals = self.interpolated_signals(first, last, names, steps=steps)
        raw = {m: self.modalities[m].restore(s) for m, s in signals.items()}
        return raw[to] if isinstance(to, str) else raw

    def reconstruct(self, data: Any) -> dict[str, list[Any]]:
        """Encode each row from what it has and decode every modality that this reaches.

        Raises:
            FusionError: it reaches none.
        """
        table = self._table(data)
        names = [m for m in self.modalities if self.reaches(table.names, m)]
        if not names:
            raise FusionError("no decoder starts from the data, so nothing is reconstructed", fix="use generate")
        signals = self.translated_signals(table, names)
        return {m: self.modalities[m].restore(s) for m, s in signals.items()}

    def impute(self, data: Any) -> list[dict[str, Any]]:
        """Fill each row's own gaps from what that row has; what is there stays as it is.

        A modality without a decoder is filled by the head that predicts it; one that has neither stays a gap.

        Raises:
            FusionError: there are gaps, and the model can fill none of them from the rows.
        """
        table = self._table(data)
        gaps = [{m for m in self.modalities if table[i].get(m) is None} for i in range(len(table))]
        names = [m for m in self.modalities if any(m in g for g in gaps)]
        decoded = [m for m in names if self.reaches(table.names, m)]
        heads = {modality: head for head, modality in reversed(self._heads().items())}  # of several, the first
        filled = {m: self.predict(table, heads[m]) for m in names if m in heads and m not in decoded}
        signals = self.translated_signals(table, decoded) if decoded else {}
        filled |= {m: self.modalities[m].restore(s) for m, s in signals.items()}
        if names and not filled:
            raise FusionError(
                f"no decoder or head makes {', '.join(names)} from the rows", fix="use generate: it draws"
            )
        return [{**table[i], **{m: filled[m][i] for m in filled if m in gaps[i]}} for i in range(len(table))]

    @torch.no_grad()
    def predict_proba(self, data: Any, head: str | None = None) -> Float[Tensor, "b o"]:
        """Return a predicting head's class probabilities of each row.

        Raises:
            FusionError: there is no such head, or what it predicts has no classes.
        """
        name = self._head(head)
        module = cast(Head, self.graph[name])
        return torch.cat([module.probabilities(cast(Tensor, run[name])) for run in self.runs(data)])

    @torch.no_grad()
    def predict(self, data: Any, head: str | None = None) -> list[Any]:
        """Return a raw sample a row: the likeliest class, the likely tags, a number in its own unit.

        Args:
            data: a table.
            head: which one; by default the first of the config that predicts.

        Raises:
            FusionError: there is no such head.
        """
        name = self._head(head)
        module = cast(Head, self.graph[name])
        modality = cast(Modality, module.modality)
        signals = [module.decide(cast(Tensor, run[name])) for run in self.runs(data)]
        return [raw for signal in signals for raw in modality.restore(signal)]

    def _heads(self) -> dict[str, str]:
        """Every predicting head and what it predicts, in the order of the config."""
        nodes = self.graph.wiring.nodes
        return {n: str(node.out) for n, node in nodes.items() if node.kind == "head" and node.out}

    def _head(self, name: str | None) -> str:
        heads = self._heads()
        chosen = name or next(iter(heads), None)
        if chosen not in heads:
            raise FusionError("the model has no such predicting head", actual=str(name), fix=nearest(str(name), heads))
        return chosen

    def __sklearn_clone__(self) -> "FusionModel":
        """Stay as it is: in an ensemble of scikit-learn's kind a trained model is not trained again."""
        return self

    def save(self, path: str | Path) -> Path:
        """Write the model as a folder without pickle; see ``fusion_engine.artefact``."""
        return write_artefact(Path(path), self.config, self.graph, self.plugins, self.metrics)


def _learned(name: str, modality: Modality, table: Table) -> dict[str, Any]:
    """Fit a modality to its column; an error says which it was."""
    try:
        return modality.fit(table.column(name))
    except DataError as error:
        where = f"modality {name!r}" + (f", {error.where}" if error.where else "")
        raise DataError(
            error.problem, where=where, expected=error.expected, actual=error.actual, fix=error.fix
        ) from error


class _FittedPriors(Callback):
    """Fits priors to posteriors at the start of every stage with a loss that draws from them."""

    def __init__(self, model: FusionModel, rows: Prepared) -> None:
        self.model, self.rows = model, rows

    def on_stage_start(self, trainer: Trainer, stage: Any, steps: int) -> None:
        """Fit, but not where a stage goes on from a checkpoint: that holds what was fitted."""
        if trainer.progress.done == 0 and any(cast(Loss, self.model.graph.loss(n)).draws_fitted for n in stage.losses):
            self.model.fit_priors(self.rows)


class _Stages(Callback):
    """Tells plugins when a stage starts."""

    def __init__(self, model: FusionModel, context: Context) -> None:
        self.model, self.context = model, context

    def on_stage_start(self, trainer: Trainer, stage: Any, steps: int) -> None:
        """Call the hook."""
        self.model.plugins.call("stage_started", stage=stage, model=self.model, context=self.context)


def _decoded(run: Run, decoder: str, sample: bool) -> Signal:
    likelihood = run[decoder]
    return cast(Signal, likelihood.sample(run.noise("sample", decoder)) if sample else likelihood.mean)


def join(signals: Sequence[Signal]) -> Signal:
    """Concatenate batches of signals, padding the shorter ones."""
    n = max((s.mask.shape[1] for s in signals if s.mask is not None), default=0)

    def pad(x: Tensor) -> Tensor:
        return torch.cat([x, x.new_zeros(len(x), n - x.shape[1], *x.shape[2:])], 1) if x.shape[1] < n else x

    if n == 0:
        return Signal(torch.cat([s.data for s in signals]))
    return Signal(
        torch.cat([pad(s.data) for s in signals]), torch.cat([pad(s.mask) for s in signals if s.mask is not None])
    )
