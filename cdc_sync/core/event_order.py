"""The dates of one application's calls rise: a receiver that orders by them keeps the newest state.

A row's own date may be older than one that was sent: a status that is taken back shows the date of an earlier event, a
date without a time is midnight all day long, and a clock may have been ahead. A date alone never causes a call.
"""

from dataclasses import replace

from cdc_sync.core.content import Content
from cdc_sync.core.diff import Waiting
from cdc_sync.core.instants import LATEST


def in_order(content: Content, changed_at: int, acknowledged: Content | None, pending: Waiting | None) -> Content:
    """The content with a date that is later than each that HelloWork may have received.

    It is asked for once, when the content is enqueued, so that every attempt is the same request.

    Args:
        content: what is enqueued, with its row's own date.
        changed_at: when the change was recorded or read, in milliseconds since the epoch.
        acknowledged: the snapshot; None if it was adopted, so that its date was never sent.
        pending: the entry whose place it takes; one that was attempted may have been received.
    """
    received = [] if acknowledged is None else [acknowledged.event_date]
    if pending is not None and pending.attempted:
        received.append(pending.content.event_date)
    if not received or content.event_date > max(received):
        return content
    # Beyond the last date that can be written there is nothing to order by.
    return replace(content, event_date=min(max(changed_at, max(received) + 1, content.created), LATEST))
