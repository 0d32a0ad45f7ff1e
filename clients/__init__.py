"""Publisher and subscriber for Python; the browser module is in ``js/``.

Imports ``channels`` and nothing else of Fanwire: a client is a guest of the hub.
"""

from .backoff import Backoff, Patience
from .publisher import AsyncPublisher, Publisher

__all__ = ["AsyncPublisher", "Backoff", "Patience", "Publisher"]
