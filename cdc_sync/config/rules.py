"""From the configuration to the core's values: the same without YAML's syntax, in milliseconds."""

from datetime import timedelta

from cdc_sync.config.models import Config
from cdc_sync.core.content import milliseconds
from cdc_sync.core.delivery import RetryPolicy
from cdc_sync.core.diff import FusePolicy
from cdc_sync.core.rows import ExtraField, StatusRules, WatchRules
from cdc_sync.core.status_url import AllowedHosts, endpoint_of

_DEFAULT = "default"
"""The key of `settle` that stands for every status not named there."""

_SLACK = 60_000
"""Milliseconds that clocks may differ without a due time looking like a mistake."""


def allowed_hosts(config: Config) -> AllowedHosts:
    """Where calls may go: base_url's origin, and those that are named beside it."""
    return AllowedHosts(frozenset(config.hellowork.allowed_hosts), endpoint_of(config.hellowork.base_url))


def watch_rules(config: Config, name: str) -> WatchRules:
    """A watch's rules."""
    watch = config.watches[name]
    return WatchRules(
        watch=name,
        status=StatusRules(dict(watch.status.map), watch.status.unmapped, watch.status.deleted),
        baseline=watch.baseline,
        first_status=watch.first_status,
        settle={status: milliseconds(wait) for status, wait in watch.settle.items() if status != _DEFAULT},
        default_settle=milliseconds(watch.settle.get(_DEFAULT, timedelta(0))),
        deletion_grace=milliseconds(watch.deletion_grace),
        extra=tuple(ExtraField(field, frozenset(extra.only_for)) for field, extra in watch.extra.items()),
        base_url=config.hellowork.base_url,
        own_urls=watch.columns.status_url is not None,
        allowed=allowed_hosts(config),
        fuse=FusePolicy(watch.fuse.max_changes, watch.fuse.max_deletions, milliseconds(watch.fuse.window)),
        last_known_job=watch.last_known_job,
        ordered_dates=watch.ordered_dates,
    )


def built_urls(config: Config) -> dict[str, str]:
    """The base URL of each watch that builds every URL itself, since its rows have none of their own."""
    return {
        name: config.hellowork.base_url for name, watch in config.watches.items() if watch.columns.status_url is None
    }


def retry_policy(config: Config) -> RetryPolicy:
    """When deliveries are tried again."""
    retry = config.hellowork.retry
    return RetryPolicy(
        first=milliseconds(retry.first),
        max=milliseconds(retry.max),
        give_up_after=milliseconds(retry.for_),
        not_found_for=milliseconds(config.hellowork.not_found_retry),
    )


def sender_horizon(config: Config) -> int:
    """The longest that an entry can have to wait: a due time further ahead is a clock's mistake (milliseconds)."""
    settles = [milliseconds(wait) for watch in config.watches.values() for wait in watch.settle.values()]
    return max([retry_policy(config).max, *settles]) + _SLACK
