"""Keeps secrets out of what is recorded."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

HIDDEN = "(hidden)"

_SECRET_BY_NAME = re.compile(r"auth|cookie|token|secret|password|api-?key", re.IGNORECASE)


class Concealment:
    """Replaces the values of headers that bear secrets.

    Beside the names given, every header is hidden whose name tells that it carries a credential: a client may send
    one that this emulator was not told to require.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        # Clients send the same few names with each call.
        self._is_secret = lru_cache(maxsize=256)(self._decide)

    def conceal(self, headers: Mapping[str, str]) -> dict[str, str]:
        """The headers with secret values hidden; of a header that is repeated, the last one."""
        is_secret = self._is_secret
        return {name: HIDDEN if is_secret(name) else value for name, value in headers.items()}

    def _decide(self, name: str) -> bool:
        return name.lower() in self._names or _SECRET_BY_NAME.search(name) is not None
