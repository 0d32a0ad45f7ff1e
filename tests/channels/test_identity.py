"""Who a caller is."""

import pytest

from channels import ANONYMOUS, Identity


def test_nobody_in_particular():
    """The anonymous identity has no user, no rights and no end."""
    assert ANONYMOUS.anonymous
    assert Identity() == ANONYMOUS
    assert not ANONYMOUS.workspaces
    assert not ANONYMOUS.scopes
    assert ANONYMOUS.expires_at is None


def test_a_user_is_not_anonymous():
    """Whoever has a user id was vouched for."""
    assert not Identity(user="u1").anonymous


def test_an_identity_cannot_be_changed():
    """Rights are those of the token that was verified."""
    with pytest.raises(AttributeError):
        Identity(user="u1").user = "u2"
