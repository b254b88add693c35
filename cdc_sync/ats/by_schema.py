"""SQL that is the same for each tenant of a template, but for its schema."""

from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from cdc_sync.ats.recorders import label_of
from cdc_sync.config import Config, Watch
from cdc_sync.config.sections import OwnHelloWork
from cdc_sync.config.tenants import Tenant, watch_for, watch_name


class BySchema(NamedTuple):
    """Such SQL: `script` is for the schema `placeholder`, a name that occurs nowhere else in it.

    `prefix` is a watch's name before the schema's.
    """

    prefix: str
    script: str
    placeholder: str

    def schema_of(self, watch: str) -> str | None:
        """A watch's schema; None if it cannot be put in as it is."""
        label, schema = label_of(watch), watch.removeprefix(self.prefix)
        is_plain = watch.startswith(self.prefix) and label.endswith(f"${schema}") and not schema.startswith("cdc_sync")
        return schema if is_plain else None


def by_schema(config: Config, name: str, script: Callable[[str, Watch], str]) -> BySchema | None:
    """The SQL of a template, by what makes it for a watch; None if its tenants differ by more than a schema."""
    kind = config.templates[name]
    if kind.for_each is None or kind.for_each.schemas is None:
        return None
    database = next(iter(config.databases)) if kind.for_each.databases else None
    without_headers = kind.model_copy(update={"hellowork": OwnHelloWork()})

    def script_for(schema: str) -> str:
        tenant = Tenant(database, schema)
        return script(watch_name(name, tenant), watch_for(without_headers, tenant, str))

    for number in count():
        placeholder, other = f"x{number}", f"y{number}"
        watch = watch_name(name, Tenant(database, placeholder))
        if not label_of(watch).endswith(f"${placeholder}"):
            break  # a long name: each tenant's has a hash
        if (made := script_for(placeholder)).replace(placeholder, other) == script_for(other):
            return BySchema(watch.removesuffix(placeholder), made, placeholder)
    return None
