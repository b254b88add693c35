"""How commands print text, other than tables: nothing that comes from outside steers the terminal or forges a line."""

import typer

from cdc_sync.core.visible import visible, visible_lines


def say(text: str, *, err: bool = False) -> None:
    """Print one line."""
    typer.echo(visible(text), err=err)


def say_lines(text: str, *, err: bool = False) -> None:
    """Print a text of ours that has lines."""
    typer.echo(visible_lines(text), err=err)


def put_out(document: str) -> None:
    """Print a file: a script, a configuration."""
    typer.echo(document, nl=False)
