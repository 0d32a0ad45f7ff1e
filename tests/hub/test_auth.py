"""Tokens and keys: what is accepted, and that nothing else is."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
import pytest
from starlette.requests import HTTPConnection

from channels.errors import SettingsError, TokenExpired, Unauthorized
from channels.identity import ANONYMOUS
from hub.auth import TokenVerifier, check_api_key
from hub.settings import Settings
from tests.hub.serving import SECRET, token

NOW = time.time()


def _verifier(**changes: Any) -> TokenVerifier:
    return TokenVerifier(SECRET, **changes)


def _signed(claims: dict[str, Any], *, key: str = SECRET, **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm="HS256", headers=headers or None)


def _unsigned(header: dict[str, Any], claims: dict[str, Any]) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims)}."


GOOD = {"sub": "ann", "exp": int(NOW) + 3600}


def test_a_good_token_says_who_the_caller_is() -> None:
    """Every claim arrives in the identity."""
    claims = {**GOOD, "workspaces": ["w1"], "scopes": ["publish"], "info": {"name": "Ann"}}
    identity = _verifier().verify(_signed({**claims, "iat": int(NOW), "nbf": int(NOW), "jti": "x"}))
    assert (identity.user, identity.expires_at) == ("ann", float(GOOD["exp"]))
    assert identity.workspaces == {"w1"}
    assert identity.scopes == {"publish"}
    assert identity.info is not None
    assert bytes(identity.info) == b'{"name":"Ann"}'


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "ann"},
        {"exp": GOOD["exp"]},
        {**GOOD, "sub": 7},
        {**GOOD, "sub": None},
        {**GOOD, "sub": "a\nb"},
        {**GOOD, "sub": "a" * 65},
        {**GOOD, "exp": str(GOOD["exp"])},
        {**GOOD, "exp": GOOD["exp"] + 0.5},
        {**GOOD, "exp": 1e308},
        {**GOOD, "exp": True},
        {**GOOD, "exp": None},
        {**GOOD, "exp": 2**60},
        {**GOOD, "exp": int(NOW) + 31 * 86_400},
        {**GOOD, "nbf": int(NOW) + 3600},
        {**GOOD, "iat": int(NOW) + 3600},
        {**GOOD, "iat": "now"},
        {**GOOD, "workspaces": "w1"},
        {**GOOD, "workspaces": ["w 1"]},
        {**GOOD, "workspaces": ["w"] * 257},
        {**GOOD, "scopes": [1]},
    ],
)
def test_a_claim_of_the_wrong_kind_is_refused(claims: dict[str, Any]) -> None:
    """Missing, mistyped, unbounded and future claims do not pass."""
    with pytest.raises(Unauthorized):
        _verifier().verify(_signed(claims))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "a.b.c",
        "a" * 9000,
        "\ud800",
        _unsigned({"alg": "none"}, GOOD),
        _unsigned({"alg": "HS256"}, GOOD),
        _signed(GOOD, key="another secret of thirty-two bytes!!"),
        jwt.encode(GOOD, SECRET * 2, algorithm="HS512"),
        _signed(GOOD, crit=["x"], x=1),
        base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.x",
        _signed(GOOD) + "x",
    ],
    # The tokens are of this moment; a test has one name.
    ids=range(12),
)
def test_what_we_did_not_sign_is_refused_without_an_echo(text: str) -> None:
    """Garbage, other algorithms and other keys are refused; the error does not repeat them."""
    with pytest.raises(Unauthorized) as caught:
        _verifier().verify(text)
    assert len(text) < 4 or text not in caught.value.message


def test_an_expired_token_is_told_apart() -> None:
    """A client whose token ended gets a new one; it must know."""
    with pytest.raises(TokenExpired):
        _verifier().verify(_signed({**GOOD, "exp": int(NOW) - 1}))


def test_audience_and_issuer_count_when_they_are_set() -> None:
    """With an audience or issuer configured, others are refused; without, none is looked at."""
    both = {**GOOD, "aud": "app", "iss": "us"}
    assert _verifier(audience="app", issuer="us").verify(_signed(both)).user == "ann"
    assert _verifier().verify(_signed(both)).user == "ann"
    for wrong in ({"aud": "other"}, {"iss": "them"}, {"aud": ["x"]}, {"iss": ""}):
        with pytest.raises(Unauthorized):
            _verifier(audience="app", issuer="us").verify(_signed({**both, **wrong}))
    with pytest.raises(Unauthorized):
        _verifier(audience="app").verify(_signed(GOOD))


def test_without_a_secret_no_token_is_good() -> None:
    """A hub without a secret refuses tokens; an insecure one does not look at them."""
    with pytest.raises(Unauthorized, match="token_hmac_secret"):
        TokenVerifier(None).verify(token())
    assert TokenVerifier(None, insecure=True).verify("anything") == ANONYMOUS
    with pytest.raises(SettingsError, match="32 bytes"):
        TokenVerifier("short")


def _asking(**headers: str) -> HTTPConnection:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return HTTPConnection({"type": "http", "headers": raw})


def test_the_api_key_opens_the_api() -> None:
    """Both spellings of the key pass; no key, a wrong one and a hub without one do not."""
    settings = Settings(api_key="key")
    check_api_key(settings, _asking(x_api_key="key"))
    check_api_key(settings, _asking(authorization="apikey key"))
    check_api_key(settings, _asking(authorization="ApiKey  key"))
    for headers in ({}, {"x_api_key": "no"}, {"x_api_key": ""}, {"authorization": "bearer key"}):
        with pytest.raises(Unauthorized):
            check_api_key(settings, _asking(**headers))
    with pytest.raises(Unauthorized, match="api_key is not set"):
        check_api_key(Settings(), _asking(x_api_key="key"))
    check_api_key(Settings(insecure=True), _asking())


def test_a_login_token_in_the_wrong_place_is_told_where_it_belongs() -> None:
    """And nothing of it is repeated."""
    text = f"ann~{'s' * 16}.{'x' * 43}"
    for verifier in (_verifier(), TokenVerifier(None)):
        with pytest.raises(Unauthorized, match="comes with the request") as caught:
            verifier.verify(text)
        assert "xxx" not in str(caught.value)
    assert TokenVerifier(None, insecure=True).verify(text) == ANONYMOUS
