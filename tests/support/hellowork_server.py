"""HelloWork's emulator in a thread of its own, for tests that wait for processes in plain, blocking code."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from support.emulated import Call, Emulator, EmulatorOptions

T = TypeVar("T")

_WITHIN = 30.0


class HelloWork:
    """A running emulator; made by `hellowork()`."""

    def __init__(self, emulator: Emulator, loop: asyncio.AbstractEventLoop) -> None:
        self._emulator = emulator
        self._loop = loop

    @property
    def url(self) -> str:
        return self._emulator.url

    @property
    def calls(self) -> list[Call]:
        return self._do(lambda: self._emulator.calls)

    @property
    def state(self) -> Mapping[str, dict[str, Any]]:
        return self._do(lambda: self._emulator.state)

    def calls_for(self, application_id: str) -> list[Call]:
        return [call for call in self.calls if call.application_id == application_id]

    def told(self, application_id: str) -> list[tuple[str, str]]:
        """Status and job of the calls for one application that were answered 200, in order."""
        return [
            (call.body["status"], call.body["jobId"])
            for call in self.calls_for(application_id)
            if call.status == 200 and isinstance(call.body, dict)
        ]

    def will(self, *faults: Mapping[str, object]) -> None:
        """Script faults, each as JSON."""
        self._do(lambda: self._emulator.inject(*faults))

    def will_work(self) -> None:
        """Remove the faults that still wait."""
        self._do(self._emulator.faults.clear)

    def _do(self, work: Callable[[], T]) -> T:
        async def in_its_loop() -> T:
            return work()

        return _run(in_its_loop(), self._loop)


@contextmanager
def hellowork(options: EmulatorOptions) -> Iterator[HelloWork]:
    """Run an emulator; it is gone, with its port, when the `with` is left."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="hellowork")
    thread.start()
    try:
        emulator = Emulator(options)
        _run(emulator.__aenter__(), loop)
        try:
            yield HelloWork(emulator, loop)
        finally:
            _run(emulator.__aexit__(None, None, None), loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run(work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> T:
    return asyncio.run_coroutine_threadsafe(work, loop).result(_WITHIN)
