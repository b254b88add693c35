"""Prints cdc-sync(1), from the commands and options that the program has: python3 manpage.py DATE."""

import sys
from collections.abc import Iterator
from typing import Any

import typer

from cdc_sync import __version__
from cdc_sync.cli import app


def roff(text: str) -> str:
    """A text as troff takes it: no hyphen becomes another sign, and no line a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line.startswith((".", "'")) else line for line in plain.splitlines())


def paragraphs(text: str) -> str:
    """A docstring's paragraphs."""
    return "\n.PP\n".join(roff(" ".join(part.split())) for part in text.split("\n\n") if part.strip())


def option(parameter: Any) -> str:
    """An option or an argument, and what it means."""
    names = [*parameter.opts, *parameter.secondary_opts]
    value = "" if getattr(parameter, "is_flag", False) else f" \\fI{roff(parameter.metavar or 'VALUE')}\\fR"
    if parameter.param_type_name == "argument":
        head = f"\\fI{roff(parameter.metavar or parameter.name.upper())}\\fR"
    else:
        head = ", ".join(f"\\fB{roff(name)}\\fR" for name in names) + value
    return f".TP\n{head}\n{roff(' '.join((parameter.help or '').split()))}\n"


def commands(path: str, group: Any) -> Iterator[str]:
    """Each command that does something, in the order of the help."""
    for name in group.commands:
        command = group.get_command(None, name)
        if getattr(command, "commands", None):
            yield from commands(f"{path} {name}", command)
            continue
        shown = [each for each in command.params if not getattr(each, "hidden", False)]
        yield f'.SS "{roff(f"{path} {name}".strip())}"\n{paragraphs(command.help or "")}\n'
        yield from map(option, shown)


def page(date: str) -> str:
    """The whole page."""
    root = typer.main.get_command(app)
    return "".join(
        (
            f'.TH CDC\\-SYNC 1 "{date}" "cdc\\-sync {__version__}" "System Administration"\n',
            ".SH NAME\ncdc\\-sync \\- keep HelloWork informed of what happens in an ATS's database\n",
            ".SH SYNOPSIS\n\\fBcdc\\-sync\\fR [\\fIoptions\\fR] \\fIcommand\\fR [\\fIarguments\\fR]\n",
            f".SH DESCRIPTION\n{paragraphs(root.help or '')}\n",
            ".SH OPTIONS\nThey stand before the command.\n",
            *map(option, root.params),
            ".SH COMMANDS\n",
            *commands("", root),
            ".SH EXIT STATUS\n0: done; 1: something failed; 2: wrong usage; 78: the configuration is invalid.\n",
            ".SH FILES\n.TP\n\\fI/etc/cdc\\-sync/config.yaml\\fR\nThe configuration.\n",
            ".TP\n\\fI/var/lib/cdc\\-sync/state.db\\fR\nThe store, unless it is in PostgreSQL.\n",
            ".TP\n\\fI/usr/share/doc/cdc\\-sync\\fR\nThe documentation, in English and French.\n",
            ".SH SEE ALSO\n.BR psql (1),\n.BR systemctl (1)\n",
        )
    )


if __name__ == "__main__":
    print(page(sys.argv[1]), end="")
