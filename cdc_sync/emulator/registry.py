"""What this HelloWork knows. Pure."""

from collections.abc import Mapping

from cdc_sync.emulator.answers import UPDATED, Answer, invalid, unauthorized, unknown_application


class Registry:
    """The applications, what HelloWork was last told of each, and the verdict on every call.

    Attributes:
        known: The application ids that exist; None: every one does.
        state: The body of the latest acknowledged call of each application; of `keep` applications, those called last.
    """

    def __init__(
        self,
        ats_name: str,
        known: frozenset[str] | None,
        required_headers: Mapping[str, str],
        keep: int | None = None,
    ) -> None:
        self._keep = keep
        self.known = known
        self.state: dict[str, dict[str, object]] = {}
        self._ats_name = ats_name
        self._required_headers = dict(required_headers)

    def judge(self, application_id: str, headers: Mapping[str, str], violations: tuple[str, ...]) -> Answer:
        """The normal answer to a call: who calls is looked at first, then what is said, then of whom."""
        for name, value in self._required_headers.items():
            if headers.get(name) != value:
                return unauthorized(name)
        if violations:
            return invalid(violations)
        if self.known is not None and application_id not in self.known:
            return unknown_application(application_id, self._ats_name)
        return UPDATED

    def acknowledge(self, application_id: str, body: dict[str, object]) -> None:
        """Remember the body of a call that was, or was nearly, answered with success."""
        if self._keep is not None:
            self.state.pop(application_id, None)
            while len(self.state) >= self._keep:
                del self.state[next(iter(self.state))]
        self.state[application_id] = body
