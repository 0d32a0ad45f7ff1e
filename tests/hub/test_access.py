"""Who may do what on which channel."""

from __future__ import annotations

import pytest

from channels.catalogue import Catalogue
from channels.errors import BadRequest, PermissionDenied, UnknownChannel
from channels.identity import ANONYMOUS, Identity
from hub.access import Access

ADA = Identity(user="ada", workspaces=frozenset({"w1"}), scopes=frozenset({"publish"}))
EVE = Identity(user="eve", workspaces=frozenset({"w2"}))


@pytest.mark.parametrize(
    ("channel", "who"),
    [
        ("approvals:w1", [ADA]),
        ("session:w1:s1", [ADA]),
        ("usage:ada", [ADA]),
        ("notifications:eve", [EVE]),
        ("queue:emails", []),
    ],
)
def test_the_declaration_says_who_may_subscribe(channel: str, who: list[Identity]) -> None:
    """Its rule is asked with the channel's parameters; nobody else gets in."""
    access = Access(Catalogue())
    for identity in (ADA, EVE, ANONYMOUS):
        if identity in who:
            assert access.to_subscribe(identity, channel).name == channel
        else:
            with pytest.raises(PermissionDenied, match="subscribe to"):
                access.to_subscribe(identity, channel)


def test_publishing_has_a_rule_of_its_own() -> None:
    """Who may read a run may not therefore write it; most channels nobody may write."""
    access = Access(Catalogue())
    assert access.to_publish(ADA, "run:w1:r1").name == "run:w1:r1"
    with pytest.raises(PermissionDenied, match="'eve' may not publish to 'run:w1:r1'"):
        access.to_publish(EVE, "run:w1:r1")
    with pytest.raises(PermissionDenied, match="an anonymous caller"):
        access.to_publish(ANONYMOUS, "approvals:w1")
    with pytest.raises(PermissionDenied):
        access.to_publish(ADA, "approvals:w1")


@pytest.mark.parametrize("insecure", [False, True])
def test_there_must_be_such_a_channel(insecure: bool) -> None:
    """Even where everybody may do everything."""
    access = Access(Catalogue(), insecure=insecure)
    for ask in (access.to_subscribe, access.to_publish):
        with pytest.raises(UnknownChannel):
            ask(ADA, "nowhere:x")
        with pytest.raises(BadRequest):
            ask(ADA, "a b\n")


def test_an_insecure_hub_allows_everything() -> None:
    """For development."""
    access = Access(Catalogue(allow_undeclared=True), insecure=True)
    for name in ("approvals:w1", "queue:emails", "chat"):
        assert access.to_subscribe(ANONYMOUS, name).name == name
        assert access.to_publish(ANONYMOUS, name).name == name
