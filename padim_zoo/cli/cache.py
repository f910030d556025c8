"""``padim-zoo cache``: what is kept on disk to save time."""

from __future__ import annotations

import click

from padim_zoo.cli.groups import SuggestingGroup
from padim_zoo.cli.table import show_json, show_table

PURPOSES = {
    "features": "features of image files",
    "fingerprints": "hashes and thumbnails, to find copies",
    "images": "resized images of large files",
    "networks": "backbones as other runtimes take them",
    "synthetic": "the synthetic data set",
}


@click.group(cls=SuggestingGroup)
def cache() -> None:
    """Show or clear the caches on disk.

    PADIM_ZOO_CACHE sets the folder. PADIM_ZOO_CACHE_LIMIT sets how much space features and images may take together,
    e.g. 500MB; 0 turns the cache off.
    """


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sizes in bytes.")
def info(as_json: bool) -> None:
    """Show the cache folder, its contents and the limit."""
    from padim_zoo.core.cache_folder import KINDS, LIMITED, cache_folder, cache_limit, usage

    usages = {kind: usage(kind) for kind in KINDS}
    limits = dict.fromkeys(LIMITED, cache_limit())
    if as_json:
        kinds = {kind: {**used._asdict(), "limit": limits.get(kind)} for kind, used in usages.items()}
        show_json({"folder": str(cache_folder()), "kinds": kinds})
        return
    click.echo(f"folder  {cache_folder()}")
    click.echo(f"limit   {cache_limit() / 1e6:.0f} MB, for {', '.join(LIMITED[:-1])} and {LIMITED[-1]} together\n")
    show_table(
        [
            {"kind": kind, "what": PURPOSES[kind], "entries": used.entries, "MB": used.bytes / 1e6}
            for kind, used in usages.items()
        ]
    )


@cache.command()
@click.option("--all", "everything", is_flag=True, help="Remove the synthetic data set too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sizes in bytes.")
def clear(everything: bool, as_json: bool) -> None:
    """Remove cached features and images, which are made again when needed."""
    from padim_zoo.core.cache_folder import KINDS, LIMITED
    from padim_zoo.core.cache_folder import clear as remove

    freed = {kind: remove(kind) for kind in (KINDS if everything else LIMITED)}
    if as_json:
        show_json({kind: {"entries": gone.entries, "bytes": gone.bytes} for kind, gone in freed.items()})
        return
    for kind, gone in freed.items():
        click.echo(f"{kind}: removed {gone.entries} entries, {gone.bytes / 1e6:.1f} MB")
