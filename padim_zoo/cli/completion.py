"""``padim-zoo completion``: the script with which a shell completes commands, options and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_PADIM_ZOO_COMPLETE"
"""How the script asks the program, a convention of click."""


@click.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, /, shell: str) -> None:
    """Print the script with which SHELL completes commands, options, names and files.

    \b
    bash:  eval "$(padim-zoo completion bash)"             in ~/.bashrc
    zsh:   eval "$(padim-zoo completion zsh)"              in ~/.zshrc, after compinit
    fish:  padim-zoo completion fish | source              in ~/.config/fish/config.fish
    """
    script = get_completion_class(shell)
    assert script is not None
    root = ctx.find_root().command
    # The template and not source(), which looks for a bash on this machine first.
    made = script(root, {}, "padim-zoo", VARIABLE)
    source = made.source_template % made.source_vars()
    # That of fish cuts at all commas, and lists of names have some.
    click.echo(source.replace('string split ","', 'string split --max 1 ","'))
