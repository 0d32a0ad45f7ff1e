"""Budgets on a store of each kind, in a time that is moved by hand."""

from __future__ import annotations

import pytest

from services.budgets.budgets import Budgets
from services.context import Context
from services.store.keys import Keys
from services.store.port import Store

from ..accounts import HandClock, context_of
from .support import USD, make_budgets, rules


@pytest.fixture
def clock() -> HandClock:
    """The time: 2027-01-15 08:00 UTC, moved by hand."""
    return HandClock()


@pytest.fixture
def context(any_store: Store, keys: Keys, clock: HandClock) -> Context:
    """The ground, on a store of each kind."""
    return context_of(any_store, keys, clock)


@pytest.fixture
def budgets(context: Context) -> Budgets:
    """A dollar a month for each user, nothing else is limited."""
    return make_budgets(context, rules(user=USD))
