"""A hub that wants tokens."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.hub.serving import Served, served, strict_settings
from tests.servers import ValkeyServer


@pytest.fixture
async def hub(valkey: ValkeyServer) -> AsyncIterator[Served]:
    """A hub on a real Valkey, that wants tokens and a key."""
    async with served(strict_settings(valkey.url)) as at:
        yield at
