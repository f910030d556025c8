"""A group of commands that says which one was meant."""

from __future__ import annotations

import click

from padim_zoo.core.suggest import suggest


class SuggestingGroup(click.Group):
    """A group that names the closest command, as options do."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail in one line."""
        if args[0] not in self.list_commands(ctx) and not args[0].startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {args[0]!r}: {suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)
