"""Options made of the table of settings, and a command whose help stands in panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from padim_zoo.backbones.stages import check_layers
from padim_zoo.bench.readers import PROTOCOL
from padim_zoo.bench.setting import Setting, Unset
from padim_zoo.bench.settings import SETTINGS, settings_of
from padim_zoo.data.pixel_limit import pixels_limited

PLUGINS = "padim_zoo.plugins"
"""The plugin files of a command, in ``meta`` of its context."""
_QUIET = "padim_zoo.quiet"


class PanelCommand(click.Command):
    """A command whose help has a section for each panel of its settings, after its own options.

    Attributes
    ----------
    long_name : str
        Its name as settings call it, with that of its group.
    """

    long_name = ""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                panel = parameter.setting.panel if isinstance(parameter, SettingOption) else "Options"
                sections.setdefault(panel, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Refuse names that nothing can know before anything heavy is imported, then run the command."""
        _refuse_unknown_names(ctx)
        if ctx.command.name != "bench":  # whose settings may come of a file
            refuse_bad_variables(self.long_name, ctx.params)
        if ctx.command.name == "bench":  # which shows its runs, and the stages within
            return super().invoke(ctx)
        from padim_zoo.cli.stages import stages_shown

        with stages_shown(quiet=ctx.meta.get(_QUIET, False)):
            return super().invoke(ctx)


class SettingOption(click.Option):
    """The option that gives a setting."""

    def __init__(self, *declarations: Any, setting: Setting, hidden_name: str = "", **attributes: Any) -> None:
        self.hidden_name = hidden_name
        super().__init__(*declarations, **attributes)
        self.setting = setting

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The help of the option, without the other number of its noun, which it takes too."""
        shown, self.opts = self.opts, [name for name in self.opts if name != self.hidden_name]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = shown

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What a shell offers after the option."""
        from padim_zoo.cli.candidates import complete_setting

        return complete_setting(self.setting, str(ctx.info_name), incomplete)


def setting_command(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a command of a function, with the options of all settings that it takes, in the order of the table.

    The name of a command in a group starts with that of the group.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        for setting in reversed(settings_of(name)):
            function = _option(setting, name)(function)
        command = click.command(name.split()[-1], cls=PanelCommand)(function)
        command.long_name = name
        return command

    return decorate


def asked_settings() -> dict[str, Any]:
    """The settings that were named on the command line, by what the command that runs calls them."""
    ctx = click.get_current_context()
    return {
        str(option.name): ctx.params[str(option.name)]
        for option in ctx.command.params
        if isinstance(option, SettingOption)
        and option.expose_value
        and ctx.get_parameter_source(str(option.name)) is not ParameterSource.DEFAULT
    }


def refuse_bad_variables(command: str, values: Mapping[str, Any]) -> None:
    """Refuse nonsense in an environment variable that a command reads.

    Parameters
    ----------
    command : str
    values : mapping of str
        The settings of this call, by what the command calls them. An option that is given leaves its variable unread.

    Raises
    ------
    InputError
        Naming the variable.
    """
    for row in SETTINGS.values():
        if row.resolve is not None and command in (*row.commands, *row.resolved_in):
            value = values.get(row.name_in(command))
            row.resolve(row.value_in(command) if value is None else value)


def asked_parameters() -> dict[str, Any]:
    """The parameters of the detector among :func:`asked_settings`; the protocol is no value of one."""
    names = {row.one for row in SETTINGS.values() if row.parameter}
    return {name: value for name, value in asked_settings().items() if name in names and value != PROTOCOL}


def _option(setting: Setting, command: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    form, flag = setting.form_in(command), setting.option_in(command)
    several = form in ("repeated", "by backbone")
    attributes: dict[str, Any] = {"setting": setting, "cls": SettingOption, "help": _help(setting, command, several)}
    if form == "switch":
        return click.option(f"{flag}/--no-{flag.removeprefix('--')}", default=setting.default, **attributes)
    if form == "flag":
        if setting.name == "quiet":
            attributes |= {"callback": _note_quiet, "expose_value": command == "bench"}
        return click.option(flag, is_flag=True, **attributes)
    metavar = setting.metavar
    if form == "list":
        metavar = f"{metavar},…"
    elif form == "by backbone":
        metavar = f"[BACKBONE=]{metavar}"

    def read(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        return setting.value_in(command) if value is None else setting.parse(value, command, flag)

    def load(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        ctx.meta[PLUGINS] = setting.parse(value, command, flag)
        _load_plugins(ctx.meta[PLUGINS])

    def limit(ctx: click.Context, parameter: click.Parameter, value: Any) -> None:
        ctx.with_resource(pixels_limited(read(ctx, parameter, value)))

    if setting.name == "plugin" and command != "bench":  # a suite loads those of its file too
        attributes |= {"is_eager": True, "expose_value": False, "callback": load}
    elif setting.name == "max_pixels" and command != "bench":
        attributes |= {"expose_value": False, "callback": limit}
    names = [flag, *(["-o"] if setting.name == "output" else []), setting.name_in(command)]
    other = _other_number(setting, command)
    if other:
        attributes["hidden_name"] = other
        names.append(other)
    return click.option(*names, metavar=metavar, multiple=several, **{"callback": read, **attributes})


def is_quiet() -> bool:
    """Whether the command that runs was told to say no more than its results."""
    return bool(click.get_current_context().meta.get(_QUIET, False))


def _note_quiet(ctx: click.Context, parameter: click.Parameter, value: bool) -> bool:
    ctx.meta[_QUIET] = value
    return value


def _other_number(setting: Setting, command: str) -> str:
    """The option in the plural where a command has the singular, and the other way round; empty if that is taken."""
    taken = {row.option_in(command) for row in settings_of(command)}
    options = {f"--{name.replace('_', '-')}" for name in (setting.name, setting.one)} - taken
    return options.pop() if setting.form == "list" and options else ""


def _help(setting: Setting, command: str, several: bool) -> str:
    default = setting.default_in(command)
    words = str(default) if isinstance(default, Unset) else setting.text(default)
    if setting.form == "flag":
        words = ""
    if setting.form == "switch":
        words = ("" if default else "no-") + setting.name
    text = f"{setting.help.removesuffix('.')}{'; repeatable' * several}."
    return f"{text}  [default: {words}]" if words else text


def _refuse_unknown_names(ctx: click.Context) -> None:
    if ctx.params.get("plugin") or ctx.params.get("config"):  # either may bring more names
        return
    from padim_zoo.registry import REGISTRIES

    for option in ctx.command.params:
        registry = REGISTRIES.get(f"{option.setting.one}s") if isinstance(option, SettingOption) else None
        value = ctx.params.get(str(option.name))
        if registry is not None and value is not None:
            for spec in (value,) if isinstance(value, str) else value:
                registry.refuse_unknown(str(spec))
                if registry.kind == "detector":
                    _refuse_numbers_in(str(spec))
    catalog = REGISTRIES["backbones"].catalog()
    layers = ctx.params.get("layers")
    if catalog is not None and layers is not None and ctx.command.name != "bench":
        name = str(ctx.params.get("backbone"))
        record = catalog.records.get(name)
        if record is not None and record["stages"] is None:  # of others a listing does not tell all layers
            check_layers(name, layers, record["layers"])


def _refuse_numbers_in(spec: str) -> None:
    """Refuse numbers in the spec of a detector that the setting of the same name refuses."""
    from padim_zoo.registry import parse_spec

    rows = {row.one: row for row in SETTINGS.values() if row.parameter and row.form != "by backbone"}
    for parameter, value in parse_spec(spec)[2].items():
        if parameter in rows and isinstance(value, (int, float)) and not isinstance(value, bool):
            rows[parameter].parse(str(value), "fit", parameter)


def _load_plugins(paths: tuple[Path, ...]) -> None:
    if paths:
        from padim_zoo.registry import load_plugin

        for path in paths:
            load_plugin(path)
