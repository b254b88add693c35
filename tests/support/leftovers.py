"""What a program that starts others has left behind: files, and processes."""

from pathlib import Path

import psutil


def inhabitants(folder: Path) -> list[str]:
    """The command lines of processes that name the folder, or work in it."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if str(folder) in line or process.cwd().startswith(str(folder)):
                found.append(line)
        except psutil.Error:
            continue  # gone, a zombie, or somebody else's
    return found


def nothing_left(folder: Path) -> bool:
    """Whether the folder is empty, and nobody's place."""
    return not list(folder.iterdir()) and not inhabitants(folder)
