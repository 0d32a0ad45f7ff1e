"""Publisher and subscriber for Python; the browser module is in ``js/``.

Imports ``channels`` and nothing else of Fanwire: a client is a guest of the hub.
"""

from .approvals import ApprovalWaits, Decision, wait_for_decision
from .backoff import Backoff, Patience
from .delivery import Delivery, Gap, Snapshot
from .publisher import AsyncPublisher, Publisher
from .rest import RestClient
from .subscriber import Subscriber
from .subscription import Subscription

__all__ = [
    "ApprovalWaits",
    "AsyncPublisher",
    "Backoff",
    "Decision",
    "Delivery",
    "Gap",
    "Patience",
    "Publisher",
    "RestClient",
    "Snapshot",
    "Subscriber",
    "Subscription",
    "wait_for_decision",
]
