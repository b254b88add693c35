"""The emulator as a whole: an HTTP server with HelloWork's status API and the control API on one port."""

import asyncio
import logging
import signal
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from aiohttp import web

from cdc_sync.config import HostPort
from cdc_sync.core.failures import OperationError
from cdc_sync.emulator.answers import no_such_path, respond
from cdc_sync.emulator.calls import Call, Journal, JournalError
from cdc_sync.emulator.control import PREFIX, Control
from cdc_sync.emulator.faults import Fault, parse_faults
from cdc_sync.emulator.options import EmulatorOptions
from cdc_sync.emulator.status_api import StatusApi
from cdc_sync.listening import Listener, allow_all_descriptors, bugs_alone, descriptors

_STOP_GRACE_SECONDS = 0.1


_logger = logging.getLogger(__name__)
_logger.addFilter(bugs_alone)


class ListenError(OperationError):
    """The address cannot be listened on: taken, reserved, or not of this machine."""


class Emulator:
    """HelloWork's status API, served while the context is entered. Once left, it cannot be entered again.

    Args:
        options: What it knows and demands; by default every application, and no header.
        on_call: Told of each call that is over, from within the event loop: it must be quick.
        places: Connections at once, twice what a cdc-sync opens at most (`hellowork.concurrency`); never more than half
            of the files that this process may open.
        request_within: Seconds that a connection may take for a complete request.
        idle: Seconds that it may be silent: longer than clients keep one (15 seconds, aiohttp's), so that none calls
            into one that is being closed.

    Attributes:
        url: The base URL, without a slash at the end; empty before the first entry.
        over: Set when it cannot do its work any more; leaving the context then raises why.

    Raises:
        ListenError: On entry: the address cannot be listened on.
        JournalError: On entry: the journal cannot be opened. On exit: it could not be written meanwhile.
    """

    def __init__(
        self,
        options: EmulatorOptions | None = None,
        *,
        on_call: Callable[[Call], None] = lambda _: None,
        places: int = 2_000,
        request_within: float = 10.0,
        idle: float = 75.0,
    ) -> None:
        self._places = places
        self._request_within = request_within
        self._idle = idle
        self._options = options = options or EmulatorOptions()
        self._on_call = on_call
        self._api = StatusApi(options, self._end)
        self._control = Control(self._api, is_loopback=HostPort(options.host, options.port).is_loopback)
        self._journal: Journal | None = None
        self._journal_error: JournalError | None = None
        self.over = asyncio.Event()
        self.url = ""

    @property
    def calls(self) -> list[Call]:
        """The calls that are kept, in the order of their arrival, those in progress included."""
        return self._api.log.after(0)

    @property
    def state(self) -> Mapping[str, dict[str, object]]:
        """The body of the latest acknowledged call of each application."""
        return dict(self._api.state)

    @property
    def pending_faults(self) -> list[dict[str, object]]:
        """The faults that still wait for calls, as the JSON that would ask for them."""
        return self._api.script.pending()

    def inject(self, *faults: Fault | Mapping[str, object]) -> None:
        """Script faults, behind those that wait already: made ones, or the same as JSON.

        Raises:
            FaultError: One of them does not exist or has wrong fields; none is scripted.
        """
        self._api.script.add(parse_faults(faults))

    def know(self, application_ids: frozenset[str] | None) -> None:
        """Change which applications exist; None: every one does."""
        self._api.known = application_ids

    def clear(self) -> None:
        """Forget calls, state and faults, as if newly started; only the calls' numbers go on."""
        self._api.log.forget()
        self._api.state.clear()
        self._api.script.clear()

    async def wait_for_calls(self, count: int, timeout: float) -> list[Call]:  # noqa: ASYNC109 - tells what did arrive
        """Wait until so many calls have arrived since the start or the last `clear`.

        Returns:
            The calls that are kept; they may be more than were waited for.

        Raises:
            TimeoutError: They did not arrive within so many seconds; the message tells which ones did.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._api.log.wait(count)
        except TimeoutError:
            arrived = [f"{call.application_id} {call.status or call.fault}" for call in self.calls]
            raise TimeoutError(f"{len(arrived)} of {count} calls within {timeout} s: {', '.join(arrived)}") from None
        return self.calls

    async def __aenter__(self) -> Self:
        options = self._options
        if options.journal is not None:
            self._journal = Journal(options.journal, self._fail)
        # The low-level server: an application's router and middlewares would cost as much as the rest together.
        # Bodies are not decompressed, so that a compressed one is what it is to HelloWork: no JSON.
        self._server = web.Server(
            self._answer, handler_cancellation=True, access_log=None, logger=_logger, auto_decompress=False
        )
        try:
            self._listener = await Listener(
                self._server,
                most=min(self._places, descriptors() // 2),
                request_within=self._request_within,
                idle=self._idle,
            ).open(options.host, options.port)
        except OSError as error:
            self._close_journal()
            raise ListenError(
                f"cannot listen on {options.host} port {options.port}: {error.strerror or error}; "
                "choose an address of this machine and a free port (0 takes any)"
            ) from None
        self.url = f"http://{HostPort(options.host, self._listener.port)}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(_STOP_GRACE_SECONDS)
        # A client that reads nothing would keep a closing connection open for ever.
        self._listener.abort()
        # The transports tell their protocols of the end in the next turn of the loop, and free their sockets then.
        await asyncio.sleep(0)
        self._close_journal()
        if self._journal_error is not None and error is None:
            raise self._journal_error

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        with self._listener.answering(request):
            if request.raw_path.startswith(PREFIX):
                return respond(await self._control.answer(request))
            if request.method == "HEAD" and request.raw_path == "/":
                # `cdc-sync check` asks so whether anybody is there: about no application, so no call to be recorded.
                return respond(no_such_path())
            return await self._api.answer(request)

    def _end(self, call: Call) -> None:
        if self._journal is not None:
            self._journal.add(call)
        self._on_call(call)

    def _fail(self, error: JournalError) -> None:
        self._journal_error = error
        self.over.set()

    def _close_journal(self) -> None:
        if self._journal is not None:
            self._journal.close()


async def serve(
    options: EmulatorOptions,
    *,
    on_start: Callable[[str], None] = lambda _: None,
    on_call: Callable[[Call], None] = lambda _: None,
) -> None:
    """Serve until cancelled, or until SIGTERM or SIGINT comes. Must run in the main thread; prints nothing.

    Args:
        options: What the emulator knows and demands.
        on_start: Told the base URL once calls are accepted.
        on_call: Told of each call that is over.

    Raises:
        ListenError: The address cannot be listened on.
        JournalError: The journal cannot be opened or written.
    """
    allow_all_descriptors()
    emulator = Emulator(options, on_call=on_call)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, emulator.over.set)
    try:
        async with emulator:
            on_start(emulator.url)
            await emulator.over.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
