"""Adds one row to the table of settings, in a process of its own, and prints where it is found."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

from padim_zoo.bench.readers import number
from padim_zoo.bench.setting import Setting
from padim_zoo.bench.settings import SETTINGS

SETTINGS["sharpness"] = Setting(
    "sharpness",
    number,
    "How sharp a toy is.",
    default=1.5,
    commands=("bench", "fit"),
    metavar="X",
    recorded=True,
    parameter=True,
    column="text",
)


def main(toy_zoo: Path, folder: Path) -> dict[str, object]:
    """Benchmark a toy that takes the setting, and tell what is made of it."""
    from click.testing import CliRunner

    from padim_zoo import registry
    from padim_zoo.bench.check.matching import match
    from padim_zoo.bench.check.row import read_rows
    from padim_zoo.bench.leaderboard import leaderboard
    from padim_zoo.bench.plan import make_plan
    from padim_zoo.bench.store import RunStore
    from padim_zoo.bench.suite import Suite, read_settings
    from padim_zoo.cli.main import main
    from padim_zoo.report.commands import reproducing_command

    registry.load_plugin(toy_zoo)
    toys = sys.modules[f"padim_zoo_plugin_{toy_zoo.stem}"]

    @registry.detectors.register("sharp")
    class Sharp(toys.Toy):  # type: ignore[misc,name-defined]
        def __init__(self, backbone, estimator="full", *, seed=0, resize=None, crop=None, sharpness=0.0):  # type: ignore[no-untyped-def]
            super().__init__(backbone, estimator, seed=seed, resize=resize, crop=crop)
            self.sharpness = sharpness

    images = toys.make_images(folder / "images", categories=("alpha",))
    (folder / "suite.yaml").write_text(
        "detectors: sharp\nbackbones: toy-linear\nestimators: full\nresize: none\ncrop: none\n"
        f"dataset: mvtec\ndata_root: {images}\noutput: {folder / 'runs'}\nsharpness: 2\n"
    )

    def invoke(*arguments: object) -> str:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    invoke("bench", "--quiet", "--config", folder / "suite.yaml")
    invoke("bench", "--quiet", "--config", folder / "suite.yaml", "--sharpness", "3")
    store = RunStore(folder / "runs")
    documents = sorted(store.read_all().documents, key=lambda document: document["config"]["sharpness"])
    rows = read_rows(store, documents)
    commands = [shlex.split(str(reproducing_command(document))) for document in documents]
    again = [command[command.index("--sharpness") + 1] for command in commands]
    settings = read_settings(folder / "suite.yaml")
    return {
        "help": {command: invoke(command, "--help") for command in ("bench", "fit", "predict")},
        "suite": Suite.from_settings(settings).sharpness,  # type: ignore[attr-defined]
        "default": Suite().sharpness,  # type: ignore[attr-defined]
        "config": [document["config"]["sharpness"] for document in documents],
        "ids": [document["id"] for document in documents],
        "planned": [make_plan(Suite.from_settings(settings, {"sharpness": text})).runs[0].id for text in again],
        "column": leaderboard(documents)["sharpness"].tolist()[:2],
        "pairs": [pair.name for pair in match(rows, rows).pairs],
        "apart": match(rows[:1], rows[1:]).new,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
