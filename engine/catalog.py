"""Find every plugin: the built-in ones, and those of other packages."""

import inspect
import pkgutil
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta, tzinfo
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from headrace.engine.config.fields import Compiled
from headrace.engine.config.literals import format_duration
from headrace.engine.files.problem import Problem
from headrace.engine.plugin import ERROR_PORT, Example, Plugin

GROUP = "headrace.plugins"
"""The entry point group by which another package brings plugins; the entry point's name is the plugin's."""

BUILT_IN = "built in"
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """A plugin as catalog, lint, schemas and docs see it."""

    name: str
    plugin: type[Plugin[Any]]
    doc: str
    """The text of its file's docstring."""
    origin: str
    """`built in`, or the name of the distribution that brings it."""

    @property
    def summary(self) -> str:
        """What it is for, in one line."""
        return self.doc.partition("\n")[0].strip()

    @property
    def ports(self) -> Mapping[str, str]:
        """Its ports, where they do not depend on the config, with what each means; without `error`."""
        return self.plugin.ports

    @property
    def ports_vary(self) -> bool:
        """Whether a node's ports depend on its config."""
        return self.plugin.ports_for.__func__ is not Plugin.ports_for.__func__  # type: ignore[attr-defined]

    @property
    def examples(self) -> Iterable[Example]:
        """Its examples."""
        return self.plugin.examples

    @property
    def uses(self) -> frozenset[str]:
        """What I/O it does."""
        return frozenset(self.plugin.uses)

    def config_schema(self, ref_template: str = "#/$defs/{model}") -> dict[str, Any]:
        """Return the JSON Schema of its config."""
        return self.plugin.config_type.model_json_schema(
            ref_template=ref_template, schema_generator=_ConfigSchema
        )


class _ConfigSchema(GenerateJsonSchema):
    """Writes a default as it would stand in a file."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, Compiled):
            return dft.source
        if isinstance(dft, timedelta):
            return format_duration(dft)
        return str(dft) if isinstance(dft, tzinfo) else super().encode_default(dft)


class Catalog(Mapping[str, PluginInfo]):
    """Every plugin by its name, in the order of names; `problems` tells which could not be used."""

    def __init__(self, plugins: Iterable[PluginInfo], problems: Iterable[Problem] = ()) -> None:
        self._plugins = {info.name: info for info in sorted(plugins, key=lambda info: info.name)}
        self.problems = tuple(problems)

    def __getitem__(self, name: str) -> PluginInfo:
        return self._plugins[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._plugins)

    def __len__(self) -> int:
        return len(self._plugins)


def find_plugins(others: Iterable[EntryPoint] | None = None) -> Catalog:
    """Return the catalog of this installation; `others` are entry points, by default the installed ones."""
    found = {info.name: info for info in _built_in()}
    problems: list[Problem] = []
    entries = entry_points(group=GROUP) if others is None else others
    for entry in sorted(entries, key=lambda entry: (entry.name, _origin(entry), entry.value)):
        if entry.name in found:
            message = f"the plugin '{entry.name}' is there already ({found[entry.name].origin})"
            problems.append(Problem(_origin(entry), entry.name, "P02", message, "The first is used."))
            continue
        try:
            found[entry.name] = _info(entry.name, entry.load(), _origin(entry))
        # The edge to code that is not ours: whatever it raises, all other plugins still work.
        except Exception as error:  # noqa: BLE001
            message = f"the plugin '{entry.name}' cannot be loaded: {type(error).__name__}: {error}"
            problems.append(Problem(_origin(entry), entry.name, "P01", message))
    return Catalog(found.values(), problems)


def _built_in() -> Iterator[PluginInfo]:
    package = import_module("headrace.plugins")
    for module in pkgutil.iter_modules(package.__path__):
        name = f"headrace.plugins.{module.name}"
        yield _info(module.name, import_module(name), BUILT_IN)


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist else entry.module


def _info(name: str, loaded: object, origin: str) -> PluginInfo:
    """Make the entry of a module with one plugin in it, or of a plugin class; raises TypeError for others."""
    if not _NAME.fullmatch(name):
        raise TypeError(f"'{name}' cannot be a plugin's name: use small letters, digits and _")
    if isinstance(loaded, ModuleType):
        module, plugin = loaded, _plugin_of(loaded)
    elif inspect.isclass(loaded) and issubclass(loaded, Plugin):
        module, plugin = import_module(loaded.__module__), loaded
    else:
        raise TypeError(f"{loaded!r} is neither a plugin nor a module with one")
    doc = inspect.cleandoc(module.__doc__ or plugin.__dict__.get("__doc__") or "")
    return PluginInfo(name, plugin, doc, origin)


def _plugin_of(module: ModuleType) -> type[Plugin[Any]]:
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
    plugins = [value for value in own if inspect.isclass(value) and issubclass(value, Plugin)]
    public = [plugin for plugin in plugins if not plugin.__name__.startswith("_")]
    if len(public) != 1:
        raise TypeError(f"{module.__name__} has {len(public)} plugins; a file has one")
    return public[0]


def port_names(info: PluginInfo, config: Any) -> list[str]:
    """Return the ports of a node with this config, `error` last."""
    return [*info.plugin.ports_for(config), ERROR_PORT]
