"""A group of commands that says which one was meant."""

from __future__ import annotations

import re

import click

from padim_zoo.core.suggest import suggest

_LEAST_LETTERS = 4
"""Of a word that is looked for in the help of options."""


_NOT_ONE_OF = re.compile(r"'(.*)' is not one of ")


def meant(error: click.UsageError, command: click.Command | None = None) -> click.UsageError:
    """An error about a choice or an option with what was meant, as far as that can be told; others as they are.

    Parameters
    ----------
    error : UsageError
    command : Command, optional
        That which was invoked: not all errors of click tell it.
    """
    kind = getattr(getattr(error, "param", None), "type", None)
    wrong = _NOT_ONE_OF.match(error.message)
    if isinstance(kind, click.Choice) and wrong:
        message = f"{wrong[1]!r} is unknown: {suggest(wrong[1], [str(choice) for choice in kind.choices])}"
        return click.BadParameter(message, error.ctx, getattr(error, "param", None))
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        options = _options_about(_letters(error.option_name), error.ctx.command)
        if options:
            message = f"No such option {error.option_name!r}. Did you mean {' or '.join(map(repr, options))}?"
            return click.NoSuchOption(error.option_name, message, ctx=error.ctx)
    if isinstance(error, click.BadOptionUsage) and command is not None and "requires an argument" in error.message:
        context = click.Context(command)
        named = (one.get_help_record(context) for one in command.params if error.option_name in one.opts)
        usage = next(filter(None, named), None)
        return error if usage is None else click.UsageError(f"{error.message.rstrip('.')}: {usage[0]}", error.ctx)
    return error


def _options_about(word: str, command: click.Command) -> list[str]:
    """Options whose help has a word in it: ``--falsealarm`` is about ``--fpr``."""
    options = [one for one in command.params if isinstance(one, click.Option) and len(word) >= _LEAST_LETTERS]
    return [max(one.opts, key=len) for one in options if word in _letters(one.help or "")]


def _letters(text: str) -> str:
    return re.sub(r"[^a-z]", "", text.lower())


class SuggestingGroup(click.Group):
    """A group that names the closest command, as options do."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail in one line."""
        if args[0] not in self.list_commands(ctx) and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}: {suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
