"""The engine: finds plugins, owns the registry, builds models. Torch is imported only when something is built."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from fusion_engine.config import RunConfig, read_config
from fusion_engine.errors import ConfigError
from fusion_engine.plugins import Plugins, Registry, load_plugins
from fusion_engine.signature import construct_kwargs
from fusion_engine.wiring import Wiring, resolve, wire

if TYPE_CHECKING:
    from fusion_engine.components import Dataset
    from fusion_engine.model import FusionModel

Source = RunConfig | Mapping[str, Any] | str | Path
Modalities = Mapping[str, str | Mapping[str, Any]]
"""Component by modality, or a mapping with ``use``, ``with``, ``encoder``, ``decoder``."""


class Engine:
    """Builds models from configs, recipes and saved folders. Cheap, and there may be many: nothing is global.

    Args:
        plugins: besides the installed ones: a ``.py`` file, a module's name, a module.
        block: names of plugins to leave out.
    """

    def __init__(self, plugins: Sequence[str | Path | ModuleType] = (), block: Sequence[str] = ()) -> None:
        self.plugins: Plugins = load_plugins(plugins, block)

    @property
    def registry(self) -> Registry:
        """Every component that can be named."""
        return self.plugins.registry

    def check(self, config: Source) -> Wiring:
        """Check everything about a config that needs no torch, in milliseconds.

        Raises:
            ConfigError, PluginError: what is wrong, where, and a fix.
        """
        return wire(read_config(config), self.registry)

    def build(self, config: Source) -> "FusionModel":
        """Build and probe a model; no data is read.

        Shapes that only data can tell stand at a placeholder until ``fit``.

        Raises:
            FusionError: what is wrong with the config or a component, naming node, port, expected, actual and a fix.
        """
        from fusion_engine.build import build, complete
        from fusion_engine.model import Context, FusionModel

        self.check(config)
        plain = read_config(config).plain()
        self.plugins.call("modify_config", config=plain, context=self.plugins)
        checked = read_config(plain)
        wire(checked, self.registry)
        complete_config = complete(checked, self.registry)
        graph = build(complete_config, self.registry)
        self.plugins.call("graph_built", graph=graph, context=Context(self.plugins, complete_config))
        return FusionModel(complete_config, graph, self.plugins)

    def recipe(self, recipe: str, /, modalities: Modalities, **options: Any) -> "FusionModel":
        """Build a model from a recipe.

        Args:
            recipe: its name, such as ``vae_gan``.
            modalities: component by modality, or a mapping with ``use`` and, as needed, ``with``, ``encoder`` and
                ``decoder`` (each a component's name, or a mapping with ``use`` and ``with``).
            options: of the recipe; ``name``, ``train`` and ``data`` are sections of the config.

        Raises:
            FusionError: an option or modality is wrong.
        """
        return self.build(self.recipe_config(recipe, modalities, **options))

    def recipe_config(self, recipe: str, /, modalities: Modalities, **options: Any) -> dict[str, Any]:
        """Return the config that a recipe makes: the one to write down and change."""
        entry = self.registry.resolve(recipe, "recipe")
        sections: dict[str, Any] = {key: options.pop(key) for key in ("name", "train", "data") if key in options}
        if not isinstance(modalities, Mapping):
            raise ConfigError(
                "modalities are a mapping from name to component",
                where=f"recipe {recipe!r}",
                actual=str(modalities),
                fix='write {"image": "modality/image"}, say',
            )
        parts = {m: self._modality(m, part) for m, part in modalities.items()}
        target = entry.load()
        config: dict[str, Any] = target(parts, **construct_kwargs(target, options, f"recipe {recipe!r}"))
        return {
            "fusion_graph": 1,
            "name": recipe,
            **config,
            **sections,
            "train": {**config.get("train", {}), **sections.get("train", {})},
        }

    def _modality(self, name: str, part: str | Mapping[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {"use": part} if isinstance(part, str) else dict(part)
        unknown = sorted(set(given) - {"use", "with", "encoder", "decoder"})
        if "use" not in given or unknown:
            raise ConfigError(
                "a modality is a component's name or a mapping",
                where=f"modality {name!r}",
                expected="use, with, encoder, decoder",
                actual=str(given),
            )
        kind = resolve(self.registry, given["use"], "modality", f"modality {name!r}").load()
        defaults = {"encoder": kind.encoder, "decoder": kind.decoder}
        chosen = {key: given.get(key, default) for key, default in defaults.items()}
        return {
            "use": given["use"],
            "with": given.get("with", {}),
            **{k: {"use": v} if isinstance(v, str) else v for k, v in chosen.items()},
        }

    def dataset(self, config: Source) -> "Dataset":
        """Construct the data set that a config names; it reads its data when asked for a split.

        Raises:
            ConfigError: the config names none, or its options are wrong.
        """
        part = read_config(config).data
        if part is None:
            raise ConfigError(
                "the config names no data set", fix="add a 'data' section, such as data: {use: dataset/digits}"
            )
        target = self.registry.resolve(part.use, "dataset").load()
        dataset: Dataset = target(**construct_kwargs(target, part.with_, "data"))
        return dataset

    def load(self, path: str | Path) -> "FusionModel":
        """Load a saved model; it gives the same output as the one that was saved, bit for bit.

        Raises:
            PluginError: a plugin it needs is missing; the message names the distribution to install.
            FusionError: the folder is no saved model, or its weights do not fit.
        """
        from fusion_engine.artefact import CONFIG, check_plugins, read_metrics, read_weights
        from fusion_engine.build import build
        from fusion_engine.model import Context, FusionModel

        folder = Path(path)
        check_plugins(folder, self.plugins)
        config = read_config(folder / CONFIG)
        graph = build(config, self.registry)
        self.plugins.call("graph_built", graph=graph, context=Context(self.plugins, config))
        read_weights(folder, graph)
        model = FusionModel(config, graph, self.plugins)
        model.metrics = read_metrics(folder)
        return model
