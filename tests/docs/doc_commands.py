"""The blocks of a page: run, or parsed where the page says why they are not run."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import traceback
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import yaml
from click.testing import CliRunner
from doc_page import Block, Page
from doc_shrink import shrink

from padim_zoo.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = "padim-zoo"
SMALL = str(Path(__file__).with_name("doc_shrink.py"))
SHOWN = {"", "text"}
"""Languages of blocks that are no code: drawings and output."""

DATA = {"yaml": yaml.safe_load, "json": json.loads, "ini": lambda text: configparser.ConfigParser().read_string(text)}
OPERATORS = re.compile(r"[|&;<>()]+")


class BlockError(AssertionError):
    """A block does not do what its page shows; the message says where and why."""


class PageRun:
    """Runs the blocks of a page one after the other, in the current folder.

    Parameters
    ----------
    page : Page
    drawn : Path
        Folder for the synthetic images that ``bench`` would draw by itself.
    """

    def __init__(self, page: Page, drawn: Path) -> None:
        self.page = page
        self.drawn = str(drawn)
        self.names: dict[str, Any] = {"__name__": "__docs__"}
        self.ran = 0
        self.parsed = 0
        self.shown = 0

    def all_blocks(self) -> None:
        """Write the files that blocks show, then run or parse every block.

        Raises
        ------
        BlockError
            At the first block that fails.
        """
        for block in self.page.blocks:
            if block.file and block.not_run is None:
                Path(block.file).parent.mkdir(parents=True, exist_ok=True)
                Path(block.file).write_text(block.code, encoding="utf-8")
        for block in self.page.blocks:
            if block.language in SHOWN:
                self._show(block)
            elif block.not_run is not None:
                parse(block)
                self.parsed += 1
            else:
                self._run(block)
                self.ran += 1
        for block in self.page.blocks:
            if block.file and block.not_run is None and not self._is_used(block):
                raise BlockError(f"{block.where}: no block that is run makes use of {block.file}")

    def _show(self, block: Block) -> None:
        hidden = re.search(rf"^\s*(\$ |{PROGRAM} |pip |python |>>> )", block.code, re.MULTILINE)
        if hidden:
            raise BlockError(f"{block.where}: a command in a block of output: write ```sh or ```python")
        self.shown += 1

    def _is_used(self, block: Block) -> bool:
        stem = Path(str(block.file)).stem
        others = [other.code for other in self.page.blocks if other is not block and other.not_run is None]
        return any(re.search(rf"\b({re.escape(str(block.file))}|import {stem}|from {stem})\b", code) for code in others)

    def _run(self, block: Block) -> None:
        if block.language == "sh":
            *lines, last = commands(block)
            for where, line in lines:
                self._command(where, line, 0)
            self._command(*last, block.exit_code)
        elif block.language == "python":
            if block.file:
                compile(block.code, block.where, "exec")
            else:
                self._python(block)
        elif block.language in DATA:
            parse(block)
        else:
            raise BlockError(
                f"{block.where}: language {block.language!r}, expected sh, python, {', '.join(DATA)} or text"
            )

    def _python(self, block: Block) -> None:
        try:
            exec(compile("\n" * (_line(block.where) - 1) + block.code, self.page.path, "exec"), self.names)
        except Exception as error:
            raise BlockError(f"{block.where}: {error!r}\n{traceback.format_exc(limit=-3)}") from error

    def _command(self, where: str, line: str, expected: int) -> None:
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise BlockError(f"{where}: {line}: {error}") from error
        if words[0] == PROGRAM and not _needs_shell(line):
            result = CliRunner().invoke(main, shrink(words[1:], self.drawn))
            code, output = result.exit_code, result.output
            if result.exception is not None and not isinstance(result.exception, SystemExit):
                output += "".join(traceback.format_exception(result.exception))
        else:
            code, output = self._shell(line)
        if code != expected:
            raise BlockError(f"{where}: {line}\nexit code {code}, expected {expected}\n{output}")

    def _shell(self, line: str) -> tuple[int, str]:
        """Run a line by bash, for pipes and programs other than ours, which is made small there too."""
        folder = Path(".shims")
        folder.mkdir(exist_ok=True)
        for name, code in {
            "python": '"$@"',
            PROGRAM: f'{shlex.quote(SMALL)} {shlex.quote(self.drawn)} "$@"',
        }.items():
            shim = folder / name
            shim.write_text(f"#!/bin/sh\nexec {shlex.quote(sys.executable)} {code}\n", encoding="utf-8")
            shim.chmod(0o755)
        environment = dict(os.environ)
        environment["PATH"] = f"{folder.resolve()}{os.pathsep}{environment['PATH']}"
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], env=environment, capture_output=True, text=True, timeout=600
        )
        return done.returncode, done.stdout + done.stderr


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """``(page:line, command)`` of each line of a shell block, continued lines joined, comments left out."""
    page, first = block.where.rsplit(":", 1)
    joined, start, found = "", 0, False
    for number, line in enumerate(block.code.splitlines(), int(first)):
        start = start if joined else number
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1]
            continue
        if joined and not joined.startswith("#"):
            found = True
            yield f"{page}:{start}", joined
        joined = ""
    if joined or not found:
        raise BlockError(f"{block.where}: no command, or one that does not end")


def parse(block: Block) -> None:
    """Look through a block without running it: names and options exist, files named are there.

    Raises
    ------
    BlockError
        If something is not so.
    """
    if block.language == "sh":
        for where, line in commands(block):
            for command in re.split(r"&&|\|\||[|;]", line):
                _parse_command(where, shlex.split(command, comments=True))
    elif block.language == "python":
        try:
            compile(block.code, block.where, "exec")
        except SyntaxError as error:
            raise BlockError(f"{block.where}: {error}") from error
    elif block.language in DATA:
        try:
            DATA[block.language](block.code)
        except (ValueError, yaml.YAMLError, configparser.Error) as error:
            raise BlockError(f"{block.where}: {error}") from error
    else:
        raise BlockError(f"{block.where}: language {block.language!r}, expected sh, python, {', '.join(DATA)} or text")


def _parse_command(where: str, words: list[str]) -> None:
    while words and re.fullmatch(r"\w+=\S*", words[0]):  # VARIABLE=value before a command
        words = words[1:]
    if not words:
        raise BlockError(f"{where}: no command")
    program, *arguments = words
    program = Path(program).name
    if program == PROGRAM:
        parse_arguments(where, arguments)
    elif re.fullmatch(r"python3?", program):
        _parse_python(where, arguments)
    elif program == "pip":
        _check_extras(where, arguments)


def parse_arguments(where: str, arguments: list[str]) -> None:
    """Check that ``padim-zoo`` has such a command, with such options.

    Raises
    ------
    BlockError
        If not.
    """
    command: click.Command = main
    context = click.Context(main, info_name=PROGRAM)
    words = list(arguments)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            raise BlockError(f"{where}: {context.command_path} has no command {name}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    try:
        command.make_parser(context).parse_args(words)
    except click.UsageError as error:
        raise BlockError(f"{where}: {context.command_path}: {error.format_message()}") from error


def check_span(where: str, span: str) -> None:
    """Check a piece of code within a sentence: the command that it names, and every option.

    Raises
    ------
    BlockError
        If a command or an option does not exist.
    """
    words = span.split()
    if words[0] == PROGRAM and len(words) > 1 and re.match(r"[a-z]", words[1]):
        words = words[1:]
        if words[0] not in COMMANDS:
            raise BlockError(f"{where}: {PROGRAM} has no command {words[0]}")
    elif words[0] not in COMMANDS and not words[0].startswith("--"):
        return
    known = _options(words) if words[0] in COMMANDS else _all_options()
    for option in (word.split("=")[0].rstrip(",") for word in words if re.match("--[a-z]", word)):
        if option not in known:
            raise BlockError(f"{where}: {span}: there is no option {option}")


@cache
def _all_options() -> frozenset[str]:
    ours = frozenset(option for name in COMMANDS for option in _options([name]))
    code = "".join(
        path.read_text(encoding="utf-8") for folder in ("benchmarks", "tools") for path in (ROOT / folder).rglob("*.py")
    )
    return ours | frozenset(re.findall(r'"(--[a-z][\w-]*)"', code))


def _options(words: list[str]) -> frozenset[str]:
    """The options of the command that the words begin with; of a group's commands, if they name none of them."""
    command: click.Command = main
    for word in words:
        inner = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if inner is None:
            break
        command = inner
    inside = list(command.commands.values()) if isinstance(command, click.Group) else []
    options = [option for each in [command, *inside] for option in each.params]
    return frozenset(["--help", *(name for option in options for name in (*option.opts, *option.secondary_opts))])


def _parse_python(where: str, arguments: list[str]) -> None:
    if arguments[:1] == ["-m"]:
        if arguments[1] == "pip":
            _check_extras(where, arguments[2:])
        elif arguments[1] == "pytest":
            _check_files(where, [word for word in arguments[2:3] if not word.startswith("-")])
        return
    scripts = [word for word in arguments if word.endswith(".py")][:1]
    _check_files(where, scripts)
    for script in scripts:
        code = (ROOT / script).read_text(encoding="utf-8")
        for option in (word for word in arguments if word.startswith("--")):
            if f'"{option.split("=")[0]}"' not in code:
                raise BlockError(f"{where}: {script} has no option {option}")


def _check_files(where: str, names: list[str]) -> None:
    for name in names:
        if not (ROOT / name).exists():
            raise BlockError(f"{where}: there is no {name}")


def _check_extras(where: str, arguments: list[str]) -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    for extras in re.findall(r"(?:^| )(?:\.|padim-zoo)\[([\w,]+)\]", " ".join(arguments)):
        for extra in extras.split(","):
            if extra not in setup["options.extras_require"]:
                raise BlockError(f"{where}: there is no extra {extra}")


def _needs_shell(line: str) -> bool:
    splitter = shlex.shlex(line, posix=True, punctuation_chars=True)
    splitter.whitespace_split, splitter.commenters = True, "#"
    return any(OPERATORS.fullmatch(word) for word in splitter) or "$" in line


def _line(where: str) -> int:
    return int(where.rsplit(":", 1)[1])
