"""``padim-zoo new-plugin``: a package that a plugin can start from."""

from __future__ import annotations

from pathlib import Path

import click

from padim_zoo.cli.options import PATH


@click.command("new-plugin")
@click.argument("name")
@click.option("--kind", required=True, type=click.Choice(["backbone", "estimator", "detector", "dataset"]))
@click.option("-o", "--output", type=PATH, default=".", help="Where to create the folder.  [default: here]")
def new_plugin(name: str, kind: str, output: Path) -> None:
    """Start a plugin of your own.

    Creates the package padim-zoo-NAME, which registers a backbone, estimator, detector or dataset NAME once installed.
    It works, and its tests pass. Change its module until it does what you want.
    """
    from padim_zoo.scaffold.package import new_plugin as write

    folder = write(name, kind, output)
    click.echo(f"wrote      {folder}, a package that registers the {kind} {name.removeprefix('padim-zoo-')}")
    click.echo(f"install    pip install -e '{folder}[test]'")
    click.echo(f"test       python -m pytest {folder}")
    click.echo(f"see        padim-zoo list {kind}s")
