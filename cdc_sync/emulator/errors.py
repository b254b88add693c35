"""The ways in which the emulator can be wrong, or be used wrongly; each message says how to repair it."""

from cdc_sync.core.failures import OperationError


class EmulatorError(OperationError):
    """The base of all of them: one `except` at the edge that talks to a person."""


class OptionsError(EmulatorError):
    """An option has a value that the emulator cannot work with."""


class ListenError(EmulatorError):
    """The address cannot be listened on: taken, reserved, or not of this machine."""


class JournalError(EmulatorError):
    """The journal cannot be opened or written."""


class FaultError(EmulatorError):
    """A fault was asked for that does not exist, or whose fields are wrong; it names everything that is."""
