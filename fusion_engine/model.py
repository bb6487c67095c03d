"""A fused model: fit it, generate, translate, reconstruct, impute, predict, save."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor

from fusion_engine import inpainting, requests, sampling
from fusion_engine.artefact import write_artefact
from fusion_engine.augmenting import Augmented, Draw, augmented
from fusion_engine.build import build, complete
from fusion_engine.components import Head, Modality
from fusion_engine.config import RunConfig
from fusion_engine.data import Prepared, Table, collate
from fusion_engine.errors import FusionError
from fusion_engine.fitting import Context as Context
from fusion_engine.fitting import followers, learned
from fusion_engine.graph import Graph
from fusion_engine.noise import Noise
from fusion_engine.plugins import Plugins
from fusion_engine.requests import TRAINING as TRAINING
from fusion_engine.run import Run
from fusion_engine.training import Callback, Trainer
from fusion_engine.training.trainer import Progress
from fusion_engine.values import Signal

CHUNK = 256
"""Rows evaluated at once when no gradient is needed."""


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

    @property
    def conditions(self) -> tuple[str, ...]:
        """The modalities that condition what is generated and that nothing generates: what to give to ``generate``."""
        wiring = self.graph.wiring
        decoders = [d for m in self.modalities if (d := wiring.decoder_of(m)) is not None]
        above = frozenset[str]().union(*(wiring.conditions(d) for d in decoders))
        return tuple(m for m in self.modalities if m in above and wiring.decoder_of(m) is None)

    # Training

    def prepare(self, data: Any) -> Prepared:
        """Check data against the modalities, learn their config from it (shapes, classes ...), build the graph for it.

        Raises:
            DataError: a column is missing, samples do not fit together.
        """
        table = data if isinstance(data, Table) else Table(data)
        table.check(list(self.modalities))
        config = complete(learned(self.config, self.modalities, table), self.plugins.registry)
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
        own = followers(self, context, partial(self.fit_priors, rows), callbacks)
        where = None if directory is None else Path(directory)
        trainer = Trainer(self.graph, self.config, rows, directory=where, callbacks=own, fabric=fabric)
        self.progress = trainer.fit(resume=resume)
        self.metrics["interrupted"] = trainer.interrupted
        self.metrics |= {} if trainer.stopped is None else {"stopped": trainer.stopped}
        self.fit_priors(rows)
        return self

    def fit_priors(self, rows: Prepared) -> None:
        """Fit every prior that is wired ``of`` posteriors to draws from them on the given rows."""
        training = {module: module.training for module in self.graph.modules()}
        for name, posteriors in self.graph.fitted_priors().items():
            prior = cast(Any, self.graph[name])
            draws = [self.latents(rows, posteriors, sample=True, seed=seed) for seed in range(prior.draws)]
            prior.fit(torch.cat(draws).to(self.device))
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
        prepared = rows if isinstance(rows, Prepared) else self._prepared(rows)
        self.graph.eval()
        for start in range(0, len(prepared), CHUNK):
            index = range(start, min(start + CHUNK, len(prepared)))
            batch = collate([prepared[i] for i in index], self.modalities).to(self.device)
            yield Run(self.graph, batch, noise=Noise(0, batch.index, batch.total).at("use", seed, start), sample=sample)

    def _prepared(self, data: Any) -> Prepared:
        return Prepared(requests.read_table(data, self.modalities), self.modalities)

    def reaches(self, given: Iterable[str], modality: str) -> bool:
        """Whether a modality can be made from any of the given ones (from any at all where none is given)."""
        return requests.reaches(self.graph, given, modality)

    @torch.no_grad()
    def latents(
        self, data: Any, posteriors: str | Sequence[str] = (), *, sample: bool = False, seed: int = 0
    ) -> Float[Tensor, "b z"]:
        """Infer z of each row from what it has; several posteriors are concatenated.

        Raises:
            FusionError: the model has no such posterior.
        """
        names = requests.posteriors(self.graph, posteriors)
        runs = self.runs(data, sample=sample, seed=seed)
        return torch.cat([torch.cat([run.one(n).z for n in names], -1) for run in runs])

    @torch.no_grad()
    def features(self, data: Any, node: str) -> Float[Tensor, "b d"]:
        """Return the pooled vector of an encoder, a fusion or a posterior (its z) for each row.

        A row that has nothing the node reads gets what the node makes of nothing, such as zeros.

        Raises:
            FusionError: the model has no such node.
        """
        requests.check_features(self.graph, node)
        return torch.cat([run.features(node).pooled for run in self.runs(data)])

    def _restored(self, signals: Mapping[str, Signal]) -> dict[str, list[Any]]:
        return {m: self.modalities[m].restore(s) for m, s in signals.items()}

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
        requests.check_generation(self.graph, n, given or {})
        rows = [{name: column[i] for name, column in (given or {}).items()} for i in range(n)]
        priors = requests.fitted_priors(self.graph, prior)
        names = [m for m in requests.decoded(self.graph) if m not in (given or {})]
        runs = self.runs(Prepared(rows, self.modalities), seed=seed)
        return sampling.signals((sampling.started(run, priors) for run in runs), names, sample)

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
        return self._restored(self.generated_signals(n, given=given, prior=prior, seed=seed, sample=sample))

    def check_names(self, given: Mapping[str, Any], n: int | None = None) -> None:
        """Check that every given name is a modality, and each column n long.

        Raises:
            DataError: one is not.
        """
        requests.check_columns(self.modalities, given, n)

    @torch.no_grad()
    def translated_signals(
        self, data: Any, to: Sequence[str], *, sample: bool = False, seed: int = 0
    ) -> dict[str, Signal]:
        """Like ``translate``, but return signals; the data may be prepared rows of some modalities."""
        rows = data if isinstance(data, Prepared) else self._prepared(data)
        names = tuple(rows.modalities) if isinstance(data, Prepared) else cast(Table, rows.table).names
        requests.check_translation(self.graph, names, to)
        runs = self.runs(rows, sample=sample, seed=seed)
        return sampling.signals((sampling.singled(run) for run in runs), to, sample)

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
        raw = self._restored(self.translated_signals(table, names, sample=sample, seed=seed))
        return raw[to] if isinstance(to, str) else raw

    @torch.no_grad()
    def interpolated_signals(
        self, first: Mapping[str, Any], last: Mapping[str, Any], to: Sequence[str], *, steps: int = 8
    ) -> dict[str, Signal]:
        """Like ``interpolate``, but return signals."""
        requests.check_interpolation(self.graph, steps)
        (ends,), (path,) = self.runs([first, last]), self.runs(Prepared([{}] * steps, self.modalities))
        return sampling.signals([sampling.between(ends, path)], to, False)

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
        raw = self._restored(self.interpolated_signals(first, last, names, steps=steps))
        return raw[to] if isinstance(to, str) else raw

    def reconstruct(self, data: Any) -> dict[str, list[Any]]:
        """Encode each row from what it has and decode every modality that this reaches.

        Raises:
            FusionError: it reaches none.
        """
        table = requests.read_table(data, self.modalities)
        return self._restored(self.translated_signals(table, requests.reconstructed(self.graph, table.names)))

    def impute(self, data: Any) -> list[dict[str, Any]]:
        """Fill each row's own gaps from what that row has; what is there stays as it is.

        A modality without a decoder is filled by the head that predicts it; one that has neither stays a gap.

        Raises:
            FusionError: there are gaps, and the model can fill none of them from the rows.
        """
        table = requests.read_table(data, self.modalities)
        gaps = requests.gaps(self.modalities, table)
        heads = requests.fillers(self.graph, table.names, gaps)
        filled = {m: self.predict(table, head) for m, head in heads.items() if head is not None}
        filled |= self._restored(self.translated_signals(table, [m for m, head in heads.items() if head is None]))
        return [{**table[i], **{m: filled[m][i] for m in filled if m in gaps[i]}} for i in range(len(table))]

    def inpainted_signals(
        self, data: Any, known: Mapping[str, Any], *, sample: bool = False, seed: int = 0, **how: Any
    ) -> dict[str, Signal]:
        """Like ``inpaint``, but return signals of the masked modalities."""
        rows, way = self._prepared(data), inpainting.Inpainting(**how)
        runs = self.runs(rows, sample=sample, seed=seed)
        return inpainting.inpainted(self.graph, rows, runs, known, way, sample)

    def inpaint(
        self, data: Any, known: Mapping[str, Any], *, sample: bool = False, seed: int = 0, **how: Any
    ) -> list[dict[str, Any]]:
        """Fill gaps inside samples; what is known stays as it was prepared, and what else a row has is used too.

        Args:
            data: a table. What stands where a mask is False is never looked at.
            known: by modality a mask a row, True where known, over the prepared signal's own axes: [h w] or [c h w] of
                an image, [t] frames or [t f] of a spectrogram, [t] samples, [n] steps or tokens; None where all is
                known. ``fusion_engine.inpainting`` has ``box`` and ``gap``. A sample that a row lacks stays a gap.
            sample: draw z and what is decoded instead of taking means.
            seed: of all draws.
            how: ``method="encode"`` or ``"optimise"`` and their settings: see ``fusion_engine.inpainting.Inpainting``.

        Raises:
            DataError: a mask does not fit. FusionError: a modality has no decoder, or no z can be inferred from it.
        """
        table = requests.read_table(data, self.modalities)
        filled = self._restored(self.inpainted_signals(table, known, sample=sample, seed=seed, **how))
        return inpainting.merged(table, known, filled)

    def augment(
        self,
        data: Any,
        n: int,
        *,
        given: Mapping[str, Sequence[Any]] | None = None,
        balance: str | None = None,
        prior: str | None = None,
        keep: float | None = None,
        sample: bool = False,
        seed: int = 0,
    ) -> Augmented:
        """Put n generated rows behind the real ones, each whole: what is decoded, and what it was generated from.

        Args:
            data: a table, the real rows.
            n: how many generated ones.
            given: raw samples of conditioning modalities, n each; of modalities that are encoded z is inferred.
            balance: a category of which every class comes up equally often: given where it can be, else waited for.
            prior: as in ``generate``.
            keep: the share of generated rows that stays; the model's own discriminators and labels say which.
            sample: draw from the likelihoods, else take their means.
            seed: of all draws.

        Raises:
            DataError: the data or a number does not fit. FusionError: the model cannot generate so, or not score.
        """
        draw = Draw(self, prior, seed, sample)
        return augmented(draw, requests.read_table(data, self.modalities), n, given=given, balance=balance, keep=keep)

    @torch.no_grad()
    def predict_proba(self, data: Any, head: str | None = None) -> Float[Tensor, "b o"]:
        """Return a predicting head's class probabilities of each row.

        Raises:
            FusionError: there is no such head, or what it predicts has no classes.
        """
        name = requests.head_of(self.graph, head)
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
        name = requests.head_of(self.graph, head)
        module = cast(Head, self.graph[name])
        modality = cast(Modality, module.modality)
        signals = [module.decide(cast(Tensor, run[name])) for run in self.runs(data)]
        return [raw for signal in signals for raw in modality.restore(signal)]

    def __sklearn_clone__(self) -> "FusionModel":
        """Stay as it is: in an ensemble of scikit-learn's kind a trained model is not trained again."""
        return self

    def save(self, path: str | Path) -> Path:
        """Write the model as a folder without pickle; see ``fusion_engine.artefact``."""
        return write_artefact(Path(path), self.config, self.graph, self.plugins, self.metrics)
