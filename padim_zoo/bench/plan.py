"""From a suite to its runs: every name resolved, every mistake found before the first image is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby, product, starmap
from pathlib import Path
from typing import Any, NamedTuple

from padim_zoo import registry
from padim_zoo.backbones.backbone import Backbone
from padim_zoo.backbones.stages import default_layers
from padim_zoo.backbones.weight_provenance import count_adapted, images_adapted_to
from padim_zoo.bench.build import (
    check_detector,
    check_parameters,
    create_detector,
    detector_parameters,
    layers_for,
    weights_for,
)
from padim_zoo.bench.protocol import STRIDE, CategoryGrid, resolve_transform
from padim_zoo.bench.readers import split
from padim_zoo.bench.run import FACTS, Run, RunConfig
from padim_zoo.bench.run_images import count_of_defects
from padim_zoo.bench.settings import SETTINGS, settings_of
from padim_zoo.bench.shard import runs_of_shard
from padim_zoo.bench.specs import canonical_estimator, canonical_spec, check_settings_apply
from padim_zoo.bench.suite import Suite
from padim_zoo.core.errors import InputError
from padim_zoo.data.roi import RegionOfInterest
from padim_zoo.data.sample import Category, load_categories
from padim_zoo.data.transform import Transform
from padim_zoo.detectors.ensemble import FOLDS_OF_MEMBERS


@dataclass(frozen=True)
class Plan:
    """The runs of a suite.

    Attributes
    ----------
    runs : list of Run
        Those of one backbone and then of one category next to each other; ensembles last.
    notes : tuple of str
        Where the runs are not what one may think that was asked for.
    """

    runs: list[Run]
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Run]:
        yield from self.runs

    def __len__(self) -> int:
        return len(self.runs)


def make_plan(suite: Suite) -> Plan:
    """Work out the runs of a suite whose plugins are loaded.

    Raises
    ------
    InputError
        If a name is unknown, a folder is not there, weights cannot be read, a device is missing: whatever no run can
        mend.
    """
    detectors = [canonical_spec(spec) for spec in registry.detectors.resolve(suite.detectors)]
    for detector in detectors:
        check_detector(suite, detector)
    estimators = list(dict.fromkeys(map(canonical_estimator, registry.estimators.resolve(suite.estimators))))
    parsed = [_members(text) for text in suite.ensemble]
    named = (
        suite.backbones
        or [backbone for members in parsed for backbone, _ in members]
        or [SETTINGS["backbones"].value_in("fit")]
    )
    grid = product(registry.backbones.resolve(named), estimators)
    ensembles = dict.fromkeys(
        tuple((backbone, own or estimator) for backbone, own in members)
        for members, estimator in product(parsed, estimators)
    )
    pairs = dict.fromkeys(chain(grid, *ensembles))
    backbones = list(dict.fromkeys(backbone for backbone, _ in pairs))
    check_settings_apply("weights", suite.weights, backbones)
    check_settings_apply("layers", suite.layers, backbones)
    region = None if suite.roi is None else RegionOfInterest(suite.roi).fingerprint()
    dataset = suite.open_dataset()
    categories = load_categories(dataset, suite.categories)
    transform = resolve_transform(suite.resize, suite.crop, dataset)

    models: dict[_Model, Run] = {}
    strides: dict[_Model, int] = {}
    notes: list[str] = []
    for backbone in backbones:
        layers_of = {detector: layers_for(suite, backbone, detector) for detector in detectors}
        own_estimators = [estimator for name, estimator in pairs if name == backbone]
        modules = _make_backbones(suite, backbone, list(dict.fromkeys(layers_of.values())))
        for layers, module in modules.items():
            own_detectors = [detector for detector in detectors if layers_of[detector] == layers]
            if isinstance(module, InputError):
                notes.append(f"the rows of {', '.join(own_detectors)} on {backbone} fail: {module}")
            for model in starmap(partial(_Model, backbone), product(suite.seeds, own_detectors, own_estimators)):
                strides[model] = max(getattr(module, "strides", ()), default=STRIDE)
                if isinstance(module, InputError):
                    models[model] = _describe_failing(suite, model, layers, region, transform)
                    continue
                run = _describe(suite, module, model, region, transform)
                unfitted = create_detector(suite, run, module)
                check_parameters(unfitted)
                models[model] = replace(run, draws=unfitted.draws)

    wanted = [(run, strides[model]) for model, run in models.items()]
    for parts, seed, detector in product(ensembles, suite.seeds, detectors):
        members = [_Model(backbone, seed, detector, estimator) for backbone, estimator in parts]
        run = _combine([models[member] for member in members], suite.rule)
        check_parameters(create_detector(suite, run, *(None for _ in run.members)))
        wanted.append((run, max(strides[member] for member in members)))

    runs: dict[str, Run] = {}
    undrawn: dict[str, None] = {}
    for category in categories:
        own_grid = CategoryGrid(category)
        place: dict[str, Any] = {"dataset": category.dataset, "category": category.name, "data": category.fingerprint()}
        # A number of images that is not less than there are is all of them.
        sizes = [None if size is None or size >= len(category.train) else size for size in suite.train_sizes]
        for share, size in product(dict.fromkeys(suite.contaminate), dict.fromkeys(sizes)):
            if share is not None:
                count_of_defects(category, share, size)
            place |= {"train_size": size, "contaminated": share}
            here = [_place(run, place, own_grid, stride) for run, stride in wanted]
            same = [run for run in here if run.config.seed != suite.seeds[0] and not run.drawn]
            undrawn |= {_called(run): None for run in same}
            runs |= {run.id: run for run in here if run not in same}
        notes += own_grid.notes()
    # Backbone by backbone, so that each is made once and few are held at a time; and by its layers.
    place_of = {name: number for number, name in enumerate([None, *backbones])}
    order = sorted(
        runs.values(),
        key=lambda run: (bool(run.members), place_of.get(run.config.backbone, 0), run.config.layers or ()),
    )
    if undrawn:
        names = _listed(list(undrawn))
        notes.append(
            f"nothing is drawn by {names}: all seeds give the same scores, so seed {suite.seeds[0]} alone is run; "
            "the folds of the threshold follow the seed"
        )
    notes += [*_notes_of_sizes(suite.train_sizes, categories), *_notes_of_weights(suite, backbones, categories)]
    if suite.shard is not None:
        order = runs_of_shard(groups(order), suite.shard)
        if not order:
            notes.append(f"shard {suite.shard} has no runs: the plan has fewer parts than shards, so take fewer")
    return Plan(order, tuple(notes))


def _called(run: Run) -> str:
    """What a note calls a model."""
    config = run.config
    return config.detector if config.backbone is None else f"{config.detector} on {config.backbone}"


def _place(run: Run, place: Mapping[str, Any], grid: CategoryGrid, stride: int) -> Run:
    """A run on a category; where the grid is left to its images, also the members of an ensemble get theirs."""
    config = grid.applied(run.config.replace(**place), stride)
    members = tuple(replace(member, config=grid.applied(member.config, stride)) for member in run.members)
    asked = run.config.resize if config.resize != run.config.resize else None
    return replace(run, config=config, members=members, asked_resize=asked)


def _notes_of_weights(suite: Suite, backbones: Iterable[str], categories: Sequence[Category]) -> Iterator[str]:
    """What is to be said of thresholds that rest on images which the weights have seen."""
    for weights in dict.fromkeys(weights_for(suite, backbone) for backbone in backbones if suite.folds > 1):
        adapted_to = images_adapted_to(weights)
        counts = {category.name: count_adapted(adapted_to, category.train) for category in categories}
        seen = [f"{category.name} ({counts[category.name]} of {len(category.train)})" for category in categories]
        listed = _listed([text for text, count in zip(seen, counts.values(), strict=True) if count])
        if listed:
            yield (
                f"{Path(weights).name} was adapted to normal images of {listed}: false-alarm rates of thresholds are "
                "not strictly out of sample there; adapt to some normal images and fit on others"
            )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _notes_of_sizes(sizes: Iterable[int | None], categories: Sequence[Category]) -> Iterator[str]:
    """What is to be said of numbers of images that are larger than there are."""
    for size in sizes:
        counts = {category.name: len(category.train) for category in categories}
        small = [f"{name} ({count})" for name, count in counts.items() if size is not None and count < size]
        if small:
            yield f"train_sizes has {size}, more normal images than there are of {_listed(small)}: all are taken"


def groups(runs: Iterable[Run]) -> list[list[Run]]:
    """Cut runs where the category, the backbones or their layers change: the runs of a group share their features.

    Defects among the images to fit are of the category: another draw of them is another group.
    """

    def shared(run: Run) -> tuple[object, ...]:
        config = run.config
        defects = None if config.contaminated is None else (config.contaminated, config.train_size, config.seed)
        return config.category, config.backbone, config.layers, defects

    return [list(group) for _, group in groupby(runs, key=shared)]


class _Model(NamedTuple):
    """What makes a run, but for the category."""

    backbone: str
    seed: int
    detector: str
    estimator: str


def _make_backbones(
    suite: Suite, backbone: str, selections: Sequence[tuple[str, ...] | None]
) -> dict[tuple[str, ...] | None, Backbone | InputError]:
    """A backbone cut after some selections of layers or others; why not, where the weights lack layers of one.

    Raises
    ------
    InputError
        If it can be made with none of them.
    """
    modules: dict[tuple[str, ...] | None, Backbone | InputError] = {}
    for layers in selections:
        try:
            modules[layers] = registry.backbones.create(backbone, layers=layers, weights=weights_for(suite, backbone))
        except InputError as error:  # noqa: PERF203  twice at most
            modules[layers] = error
    errors = [module for module in modules.values() if isinstance(module, InputError)]
    if len(errors) == len(modules):
        raise errors[0]
    return modules


def _describe_failing(
    suite: Suite, model: _Model, layers: tuple[str, ...] | None, region: str | None, transform: Transform
) -> Run:
    """The run of a model whose backbone cannot be made: it fails when it is done, and its row says why."""
    options = _options(suite, model, region, transform)
    options |= {"plugins": _plugins(suite, model, options), "layers": layers or default_layers(model.backbone)}
    weights = weights_for(suite, model.backbone)
    return Run(RunConfig(**{**options, **_of_every_run(suite, model)}), weights, Path(weights).name)


def _of_every_run(suite: Suite, model: _Model) -> dict[str, Any]:
    """What is recorded of a run, whatever its detector takes."""
    names = ("mask_resize", "mask_orientation", "folds", "groups", "fpr", "corruptions", "aupimo_bounds")
    return {"detector": model.detector, "seed": model.seed, **{name: getattr(suite, name) for name in names}}


def _options(suite: Suite, model: _Model, region: str | None, transform: Transform) -> dict[str, Any]:
    """What a suite asks for of the parameters of a detector; what it does not say stays None."""
    values = {
        row.one: getattr(suite, row.name)
        for row in settings_of("bench")
        if row.recorded and row.parameter and row.form != "by backbone"
    }
    values |= {
        "backbone": model.backbone,
        "estimator": model.estimator,
        "passes": suite.pass_count,
        "roi": region,
        "resize": transform.resize,
        "crop": transform.crop,
    }
    names = detector_parameters(model.detector)
    return {name: value for name, value in values.items() if name in names}


def _describe(suite: Suite, backbone: Backbone, model: _Model, region: str | None, transform: Transform) -> Run:
    """The run of a model on no category yet; options that the detector does not take stay None.

    ``region`` is the fingerprint of the region of interest; of the transform the grid may be open.
    """
    options = _options(suite, model, region, transform)
    by_backbone = {
        "n_components": min(backbone.default_n_components, sum(backbone.channels)),
        "reduction": backbone.default_reduction,
    }
    options |= {name: options[name] or value for name, value in by_backbone.items() if name in options}
    if "backbone" in options:
        options |= {"weights_hash": backbone.weights_hash, "layers": tuple(backbone.layers)}
    if options.get("n_components", 0) > sum(backbone.channels):
        raise InputError(
            f"n_components is {suite.n_components}, but the layers {','.join(backbone.layers)} of {model.backbone} "
            f"have {sum(backbone.channels)} channels: expected 1 to that many"
        )
    options["plugins"] = _plugins(suite, model, options)
    config = RunConfig(**{**options, **_of_every_run(suite, model)})
    if "backbone" not in options:
        return Run(config)
    return Run(config, weights_for(suite, model.backbone), Path(backbone.weights_source).name)


def _plugins(suite: Suite, model: _Model, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Identity of the plugins' code that a run depends on."""
    specs = {"datasets": suite.dataset_name, "detectors": model.detector}
    specs |= {f"{kind}s": getattr(model, kind) for kind in ("backbone", "estimator") if kind in options}
    entries = [registry.REGISTRIES[kind].entry_of(spec) for kind, spec in specs.items()]
    return tuple(sorted({entry.code for entry in entries if entry.code is not None}))


def _combine(members: Sequence[Run], rule: str) -> Run:
    """The ensemble of some runs: what they share is its own, and ``members`` says in what they differ."""
    configs = [vars(member.config) for member in members]
    differing = [name for name, value in configs[0].items() if any(config[name] != value for config in configs)]
    if len({member.id for member in members}) < len(members):
        raise InputError(
            f"an ensemble of {members[0].config.detector} has members that do not differ: this detector takes no "
            "backbone or no estimator"
        )
    config = members[0].config.replace(
        **{
            **{name: _joined(config[name] for config in configs) for name in differing},
            "ensemble": rule,
            "members": tuple({name: config[name] for name in differing if name not in FACTS} for config in configs),
            "plugins": tuple(sorted({code for config in configs for code in config["plugins"]})),
        }
    )
    labels = [member.weights_label for member in members]
    label = _joined(labels) if len(set(labels)) > 1 else labels[0]
    draws = dict.fromkeys([*(part for member in members for part in member.draws), FOLDS_OF_MEMBERS])
    return Run(config, weights_label=label, members=tuple(members), draws=tuple(draws))


def _joined(values: Iterable[Any]) -> str | None:
    """Texts with ``+`` between them; None for what is no text."""
    values = list(values)
    return "+".join(values) if all(isinstance(value, str) for value in values) else None


def _members(text: str) -> list[tuple[str, str | None]]:
    """Read ``backbone[:estimator]+backbone[:estimator]…``; no estimator stands for that of the row."""
    members: list[tuple[str, str | None]] = []
    for part in split(text, "+"):
        backbone, _, estimator = part.partition(":")
        registry.backbones.entry_of(backbone)
        members.append((backbone, canonical_estimator(estimator) if estimator else None))
    if len(set(members)) != len(members) or len(members) < 2:
        raise InputError(
            f"the ensemble {text!r} has {len(set(members))} member(s): expected two or more that differ, "
            "BACKBONE[:ESTIMATOR]+BACKBONE[:ESTIMATOR]"
        )
    return members
