"""The command ``padim-zoo``: a group whose commands are imported when they run.

So ``padim-zoo --help`` imports neither torch nor pandas. Exit codes are those of docs/exit-codes.md.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import click

from padim_zoo import __version__
from padim_zoo.cli.groups import SuggestingGroup, meant
from padim_zoo.core.environment_variables import environment_set
from padim_zoo.core.errors import BAD_INPUT, InputError, exit_code_of
from padim_zoo.core.memory import is_out_of_memory
from padim_zoo.core.printable import printable
from padim_zoo.core.provenance import running
from padim_zoo.core.signals import ending_signals, exit_code_of_signal
from padim_zoo.data.file_notes import collecting

COMMANDS = {
    "bench": ("padim_zoo.cli.bench:bench", "Run a benchmark: backbones × estimators × categories × folds."),
    "leaderboard": ("padim_zoo.cli.leaderboard:leaderboard", "Show, sort and export the leaderboard of a run store."),
    "compare": ("padim_zoo.cli.compare:compare", "Compare the runs of two run stores, pair by pair."),
    "report": ("padim_zoo.cli.report:report", "Write a run store as one HTML page."),
    "plot": ("padim_zoo.cli.plot:plot", "Plot a run store for papers and slides."),
    "check": ("padim_zoo.cli.check:command", "Check a run store and benchmarks against a baseline."),
    "fit": ("padim_zoo.cli.fit:fit", "Fit a detector on normal images and save it."),
    "finetune": ("padim_zoo.cli.finetune:finetune", "Adapt a backbone to normal images, for fit and bench."),
    "update": ("padim_zoo.cli.update:update", "Add normal images to a saved detector."),
    "forget": ("padim_zoo.cli.forget:forget", "Take normal images out of a saved detector, exactly."),
    "calibrate": ("padim_zoo.cli.calibrate:calibrate", "Set another threshold of a saved detector."),
    "merge": ("padim_zoo.cli.merge:merge", "Merge PaDiM models that were fitted on parts of the images."),
    "import": ("padim_zoo.cli.import_model:import_model", "Import a PaDiM model from another program."),
    "combine": ("padim_zoo.cli.combine:combine", "Combine saved detectors into an ensemble."),
    "predict": ("padim_zoo.cli.predict:predict", "Score images with a saved detector, and draw heat maps."),
    "export": ("padim_zoo.cli.export:export", "Export a saved detector to ONNX, OpenVINO or torch."),
    "evaluate": ("padim_zoo.cli.evaluate:evaluate", "Evaluate a saved detector on the test images of a data set."),
    "show": ("padim_zoo.cli.show:show", "Show what a model, an export, a run store or a baseline holds."),
    "list": ("padim_zoo.cli.list:show", "List backbones, estimators, detectors or datasets."),
    "cache": ("padim_zoo.cli.cache:cache", "Show or clear the caches on disk."),
    "completion": ("padim_zoo.cli.completion:completion", "Print the script that completes commands in your shell."),
    "new-plugin": ("padim_zoo.cli.new_plugin:new_plugin", "Start a plugin of your own."),
    "data": ("padim_zoo.cli.data:data", "Make the synthetic data set, check a folder, find suspects."),
}
"""Where each command lives, and the line that ``padim-zoo --help`` says of it."""

GROUPS = {
    "Benchmarks": ("bench", "leaderboard", "compare", "report", "plot", "check"),
    "Models": (
        "fit",
        "predict",
        "evaluate",
        "export",
        "show",
        "calibrate",
        "update",
        "forget",
        "merge",
        "combine",
        "import",
        "finetune",
    ),
    "Data, plugins and this program": ("data", "list", "new-plugin", "cache", "completion"),
}
"""The commands as ``padim-zoo --help`` groups them, those of a first encounter first."""


_OUT_OF_MEMORY = (
    "there is not enough memory: use smaller images (--resize), a smaller --batch-size, or fewer images at a time"
)


class Mistake(click.ClickException):
    """A user's mistake, or a disk that cannot be written to: shown without a traceback."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # of a class, as click has it


class LazyGroup(SuggestingGroup):
    """A group that imports a command when it is called, and shows mistakes in one line."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **others: Any) -> Any:
        """Run the command line; files that it writes say which it was."""
        words = sys.argv[1:] if args is None else list(args)
        if args is None:
            # At exit Python looks for cycles among all objects of torch and pandas, for half a second. The system frees
            # them too; nothing here waits for an object in a cycle to be finalized.
            atexit.register(gc.freeze)
        with running(["padim-zoo", *words]), environment_set({"MPLBACKEND": "agg"}):
            return super().main(words, *rest, **others)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands, in the order of a first encounter."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from their summaries, without importing them."""
        width = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), COMMANDS[name][1]) for name in names])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a user's mistake becomes one line on standard error."""
        try:
            with ending_signals():
                return super().invoke(ctx)
        except InputError as error:
            raise Mistake(printable(error), error.exit_code) from error
        except click.UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # of click 8.2 and later: it shows the help
                raise
            told = meant(error, self.get_command(ctx, ctx.invoked_subcommand or ""))
            message = told.format_message().replace("\n\t", " ")  # choices, which click puts one on a line
            raise Mistake(printable(message), error.exit_code) from None
        except BrokenPipeError:  # the reader of our output, `head` say, has had enough: click ends quietly
            raise
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            raise Mistake(printable(f"{where}{error.strerror or error}"), exit_code_of(error)) from error
        except KeyboardInterrupt as error:
            click.echo("interrupted", err=True)
            ctx.exit(exit_code_of_signal(error))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise Mistake(_OUT_OF_MEMORY, BAD_INPUT) from error


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {printable(' '.join(str(message).split()))}", err=True)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", prog_name="padim-zoo")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Fit and compare image anomaly detectors that learn from normal images only."""
    ctx.with_resource(warnings.catch_warnings())
    warnings.showwarning = _show_warning
    ctx.with_resource(collecting())  # one warning for each kind of file, however many parts a command reads them in
