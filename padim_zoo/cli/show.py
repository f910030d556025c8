"""``padim-zoo show``: what a file is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from padim_zoo.cli.table import cell, show_json, show_rows
from padim_zoo.core.numbers import number_of

_TITLES = {"exported model": "export", "weights of a backbone": "weights"}
_VERIFIED = {
    "exported model": "file, as it was exported",
    "run": "run, as recorded",
    "run store": "runs, as recorded",
}


@click.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--verify", is_flag=True, help="Read all of it and compare every hash.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with sizes in bytes.")
def show(path: Path, verify: bool, as_json: bool) -> None:
    """Show what a file is and what it holds.

    FILE is a model, an exported file, weights of a backbone, a baseline, a run document or the folder of a run store.
    """
    from padim_zoo.report.file_description import describe_file

    facts = describe_file(path, verify=verify)
    if as_json:
        show_json(facts)
        return
    show_rows(_rows(facts))


def _rows(facts: dict[str, Any]) -> dict[str, str]:
    """The facts in words, by short titles."""
    rows = {_TITLES.get(facts["kind"], facts["kind"]): facts["path"], "size": _size(facts["bytes"])}
    if facts["kind"] == "model":
        rows |= _model_rows(facts)
    elif facts["kind"] == "exported model":
        rows["detector"] = f"{facts['detector']} ({facts['backbone']}) on {facts['n_images']} normal images"
        rows["runtime"] = facts["runtime"]
        rows["images"] = f"{_sides(facts['input_size'])}, {facts['input']}"
        rows |= {"threshold": _promise(facts), **_region_rows(facts), "precision": facts["precision"]}
    else:
        rows |= {
            name.replace("_", " "): " to ".join(value) if name == "date" else cell(value)
            for name, value in facts.items()
            if name not in ("kind", "path", "bytes", "verified", "config") and value != []
        }
    rows |= {
        name: cell(facts[name])
        for name in ("version", "date", "command", "fit", "data", "processors")
        if facts.get(name) and name not in rows
    }
    if "verified" in facts:
        rows["verified"] = f"{facts['verified']} {_VERIFIED.get(facts['kind'], 'arrays, as saved')}"
    return rows


def _model_rows(facts: dict[str, Any]) -> dict[str, str]:
    rows = _fit_rows(facts)
    for number, member in enumerate(facts.get("members", ()), 1):
        rows[f"member {number}"] = "; ".join(_fit_rows(member).values())
    if "layers" in facts:
        rows["layers"] = ", ".join(map(str, facts["layers"]))
    if "image_size" in facts:
        rows["images"] = f"resize {_pixels(facts.get('resize'))}, crop {_pixels(facts.get('crop'))}"
    if "map_values" in facts:
        rows["maps"] = f"of {facts['map_values']}s, -log10"
    return rows | {"threshold": _promise(facts)} | _region_rows(facts)


def _region_rows(facts: dict[str, Any]) -> dict[str, str]:
    """The region threshold, if there is one, and which threshold decides."""
    if facts.get("region_threshold") is None:
        return {"decides": f"{facts['decides']} threshold"} if facts.get("decides") else {}
    rate = facts.get("region_rate")
    promise = "" if rate is None else f", for a rate of at most {rate:.3g}"
    least = number_of(facts.get("region_area", 1), "pixel")
    regions = f"above {facts['region_threshold']:.4g}{promise}, from {least} of the map"
    return {"regions": regions, "decides": f"{facts.get('decides', 'image')} threshold"}


def _fit_rows(facts: dict[str, Any]) -> dict[str, str]:
    """What the detector said of its fit, and what ran the backbone; a plugin may write files without."""
    described: dict[str, str] = facts.get("described") or {"detector": facts["detector"]}
    return described | ({"runtime": facts["runtime"]} if facts.get("runtime", "torch") != "torch" else {})


def _promise(facts: dict[str, Any]) -> str:
    if facts.get("threshold") is None:
        return "none"
    rate = facts.get("false_alarm_rate")
    promise = ", set by hand" if rate is None else f", for a false-alarm rate of at most {rate:.3g}"
    return f"{facts['threshold']:.4g}{promise}"


def _sides(size: list[int]) -> str:
    return " × ".join(map(str, size))


def _pixels(size: Any) -> str:
    return "none" if size is None else _sides(size) if isinstance(size, list) else str(size)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
