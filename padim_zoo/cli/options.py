"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def _load_plugins(ctx: click.Context, parameter: click.Parameter, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    if paths:
        from padim_zoo.registry import load_plugin

        for path in paths:
            load_plugin(path)
    return paths


plugin_option = click.option(
    "--plugin",
    "plugins",
    metavar="FILE",
    type=click.Path(path_type=Path),
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_load_plugins,
    help="Python file that registers backbones, estimators, detectors or datasets; repeatable.",
)


class SizeType(click.ParamType):
    """A size in pixels: N, HEIGHTxWIDTH or ``none``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the text with :func:`padim_zoo.data.transform.parse_size`."""
        from padim_zoo.data.transform import parse_size

        return parse_size(value)
