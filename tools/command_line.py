"""What command lines of tools share."""

import argparse
import sys
from importlib import import_module


def parser_of(package: str) -> argparse.ArgumentParser:
    """A parser whose help is the package's text."""
    text, raw = import_module(package).__doc__, argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(prog=f"python -m {package}", description=text, formatter_class=raw)


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
