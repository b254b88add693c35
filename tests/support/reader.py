"""A reader of the documents: pastes the commands of a page into a terminal, in their order, and looks at how they end.

A terminal is a bash. Its `cdc-sync` is the command under test, and its `psql` is the PostgreSQL's that the tests use.
"""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from support.daemon_process import COMMAND, PATIENCE, Finished, environment, run_to_end

ROOT = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONTINUED = re.compile(r"\\\n\s*")
_FAILED = re.compile(r"^failed  ", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """A block of a page.

    Attributes:
        kind: `commands`, or the language of the block.
        text: the block.
        output: what the page shows below it, if it is commands.
    """

    kind: str
    text: str
    output: str = ""

    @property
    def lines(self) -> list[str]:
        """Its command lines, without those that are comments alone."""
        lines = _CONTINUED.sub(" ", self.text).splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]

    @property
    def code(self) -> int:
        """The exit code of its last command, by the output that the page shows."""
        return 1 if _FAILED.search(self.output) else 0


def steps(page: Path, title: str) -> list[Step]:
    """The blocks of a section, which ends with the next heading.

    A block without a language that begins with a word that bash knows is commands; any other one is an output.
    """
    found: list[Step] = []
    for language, text in _FENCE.findall(section(page, title)):
        if language:
            found.append(Step(language, text))
        elif _is_command(text.split(maxsplit=1)[0]):
            found.append(Step("commands", text))
        else:
            before = found.pop()
            found.append(Step(before.kind, before.text, before.output + text))
    return found


def section(page: Path, title: str) -> str:
    """The text below a heading, up to the next one."""
    text = page.read_text(encoding="utf-8")
    fenced = [range(*match.span()) for match in _FENCE.finditer(text)]
    headings = [
        match
        for match in re.finditer(r"^#+ (.+)$", text, re.MULTILINE)
        if not any(match.start() in fence for fence in fenced)
    ]
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    (found,) = (text[one.end() : end] for one, end in zip(headings, ends, strict=True) if one[1] == title)
    return found


def _is_command(word: str) -> bool:
    if word in {"cdc-sync", "sudo"}:
        return True
    # The programs of PostgreSQL are not on every machine; `ok` and `config.yaml` are on none.
    known = subprocess.run(["bash", "-c", f"type -t {shlex.quote(word)}"], check=False, capture_output=True)  # noqa: S607
    return known.returncode == 0 or word in {"psql", "createdb", "createuser", "pg_dump", "pip", "docker"}


class Terminal:
    """A bash in a folder: what one line exports, the next one has.

    Args:
        folder: its own; the commands run in it.
        variables: of its environment.
        path: folders of programs that are found first.
        put: what a line has on the page → what stands there in its place, for a name of a host for instance.
    """

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        *,
        path: Iterable[Path] = (),
        put: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.put = dict(put or {})
        self._variables = {**variables, "PATH": ":".join([*map(str, path), os.environ["PATH"]])}
        self._exported = folder / f".exported-{id(self)}"
        self._exported.write_text("")

    def run(self, line: str, *, code: int = 0, given: str = "") -> Finished:
        """Run a line to its end, which must have this exit code; `given` is typed into it."""
        ended = self.try_to(line, given=given)
        assert ended.code == code, f"`{line}` ended with exit code {ended.code}, not {code}:\n{ended.output}"
        return ended

    def try_to(self, line: str, *, given: str = "") -> Finished:
        """Run a line to its end."""
        exported = shlex.quote(str(self._exported))
        script = f". {exported}\n{self._written(line)}\ncode=$?\nexport -p > {exported}\nexit $code"
        with TemporaryFile("w+") as stdin:
            stdin.write(given)
            stdin.seek(0)
            return run_to_end(["bash", "-c", script], self._variables, stdin=stdin.fileno(), cwd=self.folder)

    def follow(self, step: Step) -> Finished:
        """Run the lines of a block; returns what the last one wrote."""
        assert step.kind == "commands"
        *first, last = step.lines
        for line in first:
            self.run(line)
        return self.run(last, code=step.code)

    @contextmanager
    def running(self, line: str) -> Iterator["Running"]:
        """A line that goes on until Ctrl-C, which it gets when the `with` is left."""
        script = f". {shlex.quote(str(self._exported))}\nexec {self._written(line)}"
        output = self.folder / f".output-{time.monotonic_ns()}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", script],  # noqa: S607 - wherever it is
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment(self._variables),
            )
        running = Running(line, process, output)
        try:
            yield running
            running.interrupt()
        finally:
            process.kill()
            process.wait()

    def _written(self, line: str) -> str:
        for page, here in self.put.items():
            line = line.replace(page, here)
        return line


class Running:
    """A command that goes on; made by `Terminal.running`."""

    def __init__(self, line: str, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self._line = line
        self._process = process
        self._output = output

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._output.read_text(encoding="utf-8")

    def wait_for(self, text: str) -> None:
        """Wait until it has written a text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.output:
            assert self._process.poll() is None, f"`{self._line}` has ended:\n{self.output}"
            assert time.monotonic() < deadline, f"`{self._line}` has not written {text!r}:\n{self.output}"
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Ctrl-C, once; it must end well."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            code = self._process.wait(PATIENCE)
            assert code == 0, f"`{self._line}` ended with exit code {code}:\n{self.output}"


def a_command(folder: Path, command: Iterable[str] = COMMAND, variables: Mapping[str, str] | None = None) -> Path:
    """Put a program `cdc-sync` into a folder, which is returned: the command under test, or another version."""
    folder.mkdir(exist_ok=True)
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in (variables or {}).items())
    program = folder / "cdc-sync"
    program.write_text(f'#!/bin/sh\nexec env {settings} {shlex.join(command)} "$@"\n')
    program.chmod(0o755)
    return folder
