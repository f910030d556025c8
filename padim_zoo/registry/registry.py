"""One small registry class, and its four instances: backbones, estimators, detectors, datasets.

A registry maps names to factories. Names come from four places: the package's own modules, imported
at first use; decorator calls in user code; entry points of installed distributions; and plugin files
(:func:`load_plugin`). A plugin that fails to import is recorded in :attr:`Registry.problems` and never
hides the others.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from padim_zoo.core.errors import InputError
from padim_zoo.core.suggest import suggest
from padim_zoo.registry.catalog import Catalog, are_plugins_installed, read_catalog
from padim_zoo.registry.plugins import CURRENT, LOADING, Plugin, loading
from padim_zoo.registry.signature import Signature, unknown_parameter
from padim_zoo.registry.spec import parse_spec, write_spec

if TYPE_CHECKING:
    from padim_zoo.backbones.backbone import Backbone
    from padim_zoo.data.sample import Dataset
    from padim_zoo.detectors.detector import Detector
    from padim_zoo.estimators.estimator import Estimator

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., Any])


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered name: its factory, where it came from, and what a listing says of it.

    ``code`` tells one version of a plugin from another: the hash of a plugin file, or the name and the version of an
    installed distribution. It is None for what did not come from a plugin.
    """

    name: str
    factory: Callable[..., T]
    source: str
    summary: str
    describe: Callable[[], Mapping[str, Any]]
    code: str | None = None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What a listing says beside name, source and summary; may be slow, for the first time it is asked for."""
        return self.describe()


@dataclass(frozen=True)
class Family(Generic[T]):
    """All names that start with one prefix, e.g. every ``timm/…`` model, without listing them one by one."""

    prefix: str
    factory: Callable[..., T]
    names: Callable[[], Iterable[str]]
    knows: Callable[[str], bool]
    describe: Callable[[str], Mapping[str, Any]]
    summary: str
    code: str | None = None


class PluginWarning(UserWarning):
    """A plugin could not be loaded, or shadows a name that exists already."""


class Registry(Generic[T]):
    """Names to factories of one kind of object.

    Parameters
    ----------
    kind : str
        Singular, as error messages say it: ``"backbone"``.
    modules : sequence of str
        The package's own modules that register names, imported at first use.
    """

    def __init__(self, kind: str, modules: Sequence[str]) -> None:
        self.kind = kind
        self.group = f"padim_zoo.{kind}s"
        self.problems: dict[str, str] = {}
        self._modules = tuple(modules)
        self._entries: dict[str, Entry[T]] = {}
        self._families: dict[str, Family[T]] = {}
        self._loaded = self._is_loading = False

    def register(
        self,
        name: str,
        *,
        summary: str = "",
        source: str | None = None,
        describe: Callable[[], Mapping[str, Any]] | None = None,
        **metadata: Any,
    ) -> Callable[[Factory], Factory]:
        """Register a factory (a function or a class) under ``name``; usable as a decorator.

        A second registration under one name replaces the first, so that a plugin can improve on the package and a
        notebook cell can be run twice; where the two come from different places, with a :class:`PluginWarning`.

        Parameters
        ----------
        name : str
            Letters, digits, ``_``, ``-`` and ``.``, in parts separated by ``/``.
        summary : str
            One line for listings; by default the first line of the factory's docstring.
        source : str, optional
            Where it comes from; by default the plugin being loaded, or the factory's module.
        describe : callable, optional
            Gives the metadata of listings, where finding it takes time or it may change.
        **metadata
            The metadata of listings otherwise.

        Raises
        ------
        InputError
            If the name has other characters.
        """
        if not re.fullmatch(r"[A-Za-z0-9][\w.\-]*(/[\w.\-]+)*", name):
            raise InputError(
                f"{name!r} cannot name a {self.kind}: use letters, digits, '_', '-', '.' and '/' as a separator"
            )

        def decorate(factory: Factory) -> Factory:
            plugin = CURRENT.get()
            code = None if plugin is None else plugin.code
            home = _module_of(factory) if plugin is None else plugin.source
            origin = source or home or "user code"
            replaced = self._entries.get(name)
            if replaced is not None and replaced.source != origin:
                warnings.warn(
                    f"the {self.kind} {name!r} of {replaced.source} is replaced by that of {origin}",
                    PluginWarning,
                    stacklevel=2,
                )
            text = summary or (factory.__doc__ or "").strip().split("\n", 1)[0]
            if plugin is not None:
                plugin.before_setting(self._entries, name)
            self._entries[name] = Entry(name, factory, origin, text, describe or (lambda: metadata), code)
            return factory

        return decorate

    def register_family(
        self,
        prefix: str,
        factory: Callable[..., T],
        *,
        names: Callable[[], Iterable[str]],
        knows: Callable[[str], bool] | None = None,
        describe: Callable[[str], Mapping[str, Any]] = lambda name: {},
        summary: str = "",
    ) -> None:
        """Register every name that starts with ``prefix`` (which ends in ``/``).

        Parameters
        ----------
        prefix : str
            E.g. ``"timm/"``.
        factory : callable
            Called with the name after the prefix, and the options.
        names : callable
            Gives the names after the prefix, for listings and errors; may be slow.
        knows : callable, optional
            Whether a name after the prefix exists, where ``names`` does not give them all.
        describe : callable
            Gives the metadata of one name after the prefix.
        summary : str
            What a listing says of the whole family.
        """
        exists = knows or (lambda name: name in set(names()))
        plugin = CURRENT.get()
        if plugin is not None:
            plugin.before_setting(self._families, prefix)
        code = None if plugin is None else plugin.code
        self._families[prefix] = Family(prefix, factory, names, exists, describe, summary, code)

    def create(self, spec: str, *args: Any, **options: Any) -> T:
        """Build the object that ``spec`` names.

        Parameters
        ----------
        spec : str
            A registered name, optionally with arguments: ``"shrinkage(0.2)"``. Keyword arguments in
            ``spec`` win over ``options``.

        Raises
        ------
        InputError
            If the name is unknown (the closest names are listed) or its arguments do not fit.
        """
        name, positional, keywords = parse_spec(spec)
        entry = self.entry(name)
        factory = entry.factory
        try:
            return factory(*positional, *args, **{**options, **keywords})
        except Exception as error:
            # A TypeError raised by the call itself is the caller's mistake; one from deeper down is a bug.
            of_the_call = error.__traceback__ is not None and error.__traceback__.tb_next is None
            if isinstance(error, TypeError) and of_the_call:
                raise self.arguments_that_do_not_fit(spec, factory, error) from None
            if isinstance(error, InputError) or entry.code is None:
                raise
            raise InputError(_failure_of_plugin(self.kind, entry, error)) from error

    def arguments_that_do_not_fit(self, spec: str, factory: Callable[..., Any], error: TypeError) -> InputError:
        """What to raise where the arguments of a spec are not those of its factory."""
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None and "positional argument" in str(error) and "but" in str(error):
            names = ", ".join(Signature.of(factory).parameters) or "none"
            return InputError(f"{self.kind} {spec!r} has too many values without a name: write NAME=VALUE, of {names}")
        if unknown is None:
            return InputError(f"{self.kind} {spec!r}: {error}")
        others = {name: Signature.of(entry.factory) for name, entry in self._entries.items()}
        return unknown_parameter(self.kind, spec, unknown[1], Signature.of(factory), others)

    def spec_of(self, made: Any) -> str:
        """The spec that builds an equal object: the name of its class, and its parameters.

        Raises
        ------
        InputError
            If its class is not registered.
        """
        self._load()
        for name, entry in self._entries.items():
            if entry.factory is type(made):
                return write_spec(name, **made.get_params())
        raise InputError(
            f"the {self.kind} {type(made).__name__} is not registered, so a file could not name it: register its class"
        )

    def entry(self, name: str) -> Entry[T]:
        """Look a name up.

        Raises
        ------
        InputError
            If it is unknown; the message lists the closest names and the plugins that failed to load.
        """
        self._load()
        if name in self._entries:
            return self._entries[name]
        for prefix, family in self._families.items():
            rest = name.removeprefix(prefix)
            if rest != name and family.knows(rest):
                # partial, not a closure: a call with wrong arguments must fail in the frame of create
                factory, describe = partial(family.factory, rest), partial(family.describe, rest)
                return Entry(name, factory, prefix.rstrip("/"), family.summary, describe, family.code)
        raise InputError(self._unknown(name))

    def entry_of(self, spec: str) -> Entry[T]:
        """Look the name in a spec up."""
        return self.entry(parse_spec(spec)[0])

    def families(self) -> list[Family[T]]:
        """The registered families, by prefix."""
        self._load()
        return [self._families[prefix] for prefix in sorted(self._families)]

    def names(self, pattern: str = "*") -> list[str]:
        """Registered names that match a shell wildcard, sorted; a family's names when the pattern has its prefix."""
        self._load()
        matches = [name for name in self._entries if fnmatch.fnmatchcase(name, pattern)]
        for prefix, family in self._families.items():
            if pattern.startswith(prefix):
                matches += [prefix + name for name in family.names() if fnmatch.fnmatchcase(prefix + name, pattern)]
        return sorted(matches)

    def resolve(self, patterns: Iterable[str]) -> list[str]:
        """Expand wildcards to registered names and leave plain specs as they are, without repetition.

        Raises
        ------
        InputError
            If a wildcard matches nothing or a plain name is unknown.
        """
        specs: dict[str, None] = {}
        for pattern in patterns:
            if any(sign in pattern for sign in "*?["):
                matches = self.names(pattern)
                if not matches:
                    raise InputError(f"no {self.kind} matches {pattern!r}: padim-zoo list {self.kind}s shows them all")
                specs.update(dict.fromkeys(matches))
            else:
                self.entry_of(pattern)
                specs[pattern] = None
        return list(specs)

    def catalog(self) -> Catalog | None:
        """What is registered, without importing it; None where that may be more than the package's own names."""
        touched = self._loaded or self._entries or are_plugins_installed()
        return None if touched else read_catalog(self.kind)

    def registered(self) -> tuple[str, ...]:
        """The names that are registered by now; none is imported for it."""
        return tuple(self._entries)

    def refuse_unknown(self, spec: str) -> None:
        """Refuse a spec or a wildcard early, where that can be told without importing what is registered.

        Raises
        ------
        InputError
            If the name is unknown, or takes no such parameter.
        """
        catalog = self.catalog()
        is_pattern = any(sign in spec.partition("(")[0] for sign in "*?[")
        name, _, keywords = (spec, [], {}) if is_pattern else parse_spec(spec)
        if catalog is not None and not catalog.may_have(name):
            raise InputError(self._unknown(name, list(catalog.records)))
        if catalog is not None and name in catalog.signatures:
            own = catalog.signatures[name]
            for parameter in keywords:
                if parameter not in own.parameters:
                    raise unknown_parameter(self.kind, spec, parameter, own, catalog.signatures)

    def _unknown(self, name: str, own: Sequence[str] | None = None) -> str:
        candidates = list(self._entries if own is None else own)
        expected = f"expected one of {', '.join(sorted(candidates))}"
        for prefix, family in self._families.items():
            if name.startswith(prefix):
                candidates += [prefix + rest for rest in family.names()]
        hint = suggest(name, candidates, expected)
        failed = "".join(f"; the plugin {plugin} failed to load ({why})" for plugin, why in self.problems.items())
        return f"unknown {self.kind} {name!r}: {hint} (padim-zoo list {self.kind}s shows all){failed}"

    def _load(self) -> None:
        if self._loaded:
            return
        with LOADING:
            if self._loaded or self._is_loading:  # the modules imported below use this registry themselves
                return
            self._is_loading = True
            try:
                self._load_own_modules()
                self._load_entry_points()
                self._loaded = True
            finally:
                self._is_loading = False

    def _load_own_modules(self) -> None:
        with loading(None):
            for module in self._modules:
                importlib.import_module(module)

    def _load_entry_points(self) -> None:
        points = importlib.metadata.entry_points(group=self.group)
        if points:
            _load_all_own_modules()
        for point in points:
            distribution = point.dist.name if point.dist is not None else point.value
            code = f"{distribution} {point.dist.version}" if point.dist is not None else point.value
            try:
                with loading(Plugin(f"plugin {distribution}", code)):
                    loaded = point.load()
                    if point.name not in self._entries and callable(loaded):
                        self.register(point.name)(loaded)
                self._claim(point.module, f"plugin {distribution}", code)
            except (Exception, SystemExit) as error:  # whatever a stranger's module raises must not break the others
                self._report(f"{point.name} of {distribution}", error)

    def _claim(self, module: str, source: str, code: str) -> None:
        """Names of a module that was imported before its entry point was loaded are the plugin's all the same."""
        for name, entry in self._entries.items():
            if entry.code is None and entry.source == module:
                self._entries[name] = replace(entry, source=source, code=code)

    def _report(self, plugin: str, error: BaseException) -> None:
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        self.problems[plugin] = reason
        message = f"the {self.kind} plugin {plugin} failed to load ({reason}) and is left out"
        warnings.warn(message, PluginWarning, stacklevel=2)


def _module_of(factory: Callable[..., Any]) -> str:
    """Where a factory was written, partial or not."""
    return str(getattr(getattr(factory, "func", factory), "__module__", ""))


def _failure_of_plugin(kind: str, entry: Entry[Any], error: Exception) -> str:
    """Whose mistake it is, and what was raised, in one line."""
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return f"the {kind} {entry.name!r} of {entry.source} cannot be made ({reason}): mend the plugin, or leave it out"


backbones: Registry[Backbone] = Registry(
    "backbone", [f"padim_zoo.backbones.{name}" for name in ("builtin", "scattering", "torchvision", "timm")]
)
estimators: Registry[Estimator] = Registry("estimator", ["padim_zoo.estimators"])
detectors: Registry[Detector] = Registry(
    "detector",
    [f"padim_zoo.detectors.{name}" for name in ("mahalanobis_ad", "padim", "patchcore", "spade", "stfpm", "subspace")],
)
datasets: Registry[Dataset] = Registry(
    "dataset",
    ["padim_zoo.data.datasets", "padim_zoo.data.own_images", "padim_zoo.data.real_iad", "padim_zoo.data.synthetic"],
)

REGISTRIES: dict[str, Registry[Any]] = {
    f"{registry.kind}s": registry for registry in (backbones, estimators, detectors, datasets)
}


def _load_all_own_modules() -> None:
    """Before a plugin is loaded: else it could import a module of the package first, and take its names with it."""
    for registry in REGISTRIES.values():
        registry._load_own_modules()


def load_plugin(path: str | Path) -> Plugin:
    """Run a Python file that registers backbones, estimators, detectors or datasets.

    Returns
    -------
    Plugin
        Which can take its registrations back.

    Raises
    ------
    InputError
        If the file does not exist, is not Python or raises while it runs.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"plugin {path} is not a file: expected a Python file that registers something")
    name = f"padim_zoo_plugin_{path.stem}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise InputError(f"plugin {path} is not a Python file: expected a name that ends in .py")
    module = importlib.util.module_from_spec(specification)
    plugin = Plugin(f"plugin {path.name}", hashlib.sha256(path.read_bytes()).hexdigest()[:16])
    with LOADING:
        for registry in REGISTRIES.values():
            registry._load()
        sys.modules[name] = module
        try:
            with loading(plugin):
                specification.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"plugin {path} failed to load: {reason}") from error
    return plugin
