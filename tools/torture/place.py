"""Where a run takes place: `alone`, or on several `hosts`."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
from support.emulated import Emulator

from cdc_sync.store import Store
from torture.daemon import Fleet
from torture.faults import Fault, Nemesis, Span
from torture.options import Options


class Place(ABC):
    """See the module's text.

    Attributes:
        kinds: the faults that can be caused here.
        aftermath: seconds after a fault in which delayed packets arrive and answers get lost.
        longest_pause: seconds between two of a writer's transactions, at most.
        excused: what a daemon's last word contains when it may end by itself.
    """

    kinds: Mapping[str, Fault]
    aftermath: ClassVar[float] = 0.0
    longest_pause: ClassVar[float] = 0.03
    excused: str | None = None
    fleet: Fleet
    emulator: Emulator
    nemesis: Nemesis

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.folder = folder

    @property
    @abstractmethod
    def dsn(self) -> str:
        """The ATS's database, as superuser."""

    @abstractmethod
    async def open(self, stack: AsyncExitStack, http: aiohttp.ClientSession) -> None:
        """Make HelloWork, the daemons and their nemesis, and install what they need."""

    @abstractmethod
    async def begin(self) -> None:
        """What happens before the ATS works."""

    @abstractmethod
    async def open_store(self) -> Store:
        """The store, to be read."""

    @abstractmethod
    def spans(self) -> Sequence[Span]:
        """The faults that may excuse something."""

    def misfortunes(self, _over: asyncio.Event) -> Iterable[Coroutine[Any, Any, None]]:
        """What befalls daemons beside the planned faults."""
        return ()

    async def finish(self) -> None:  # noqa: B027 - there may be nothing to do
        """What is done once all is settled."""

    def complaints(self) -> list[str]:
        """What else is wrong."""
        return []
