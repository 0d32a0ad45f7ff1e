"""The tree of errors and the codes that clients act on."""

import re
from pathlib import Path

import pytest

from channels import errors
from channels.errors import (
    DatabaseUnavailable,
    Disconnect,
    Disconnects,
    FanwireError,
    HubError,
    RequestError,
    StoreError,
    UnsubscribeCode,
    error_from_code,
)

PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, FanwireError)
]
REQUEST_ERRORS = [kind for kind in KINDS if RequestError in kind.__bases__]
DISCONNECTS = {name: one for name, one in vars(Disconnects).items() if isinstance(one, Disconnect)}
UNSUBSCRIBES = {name: one for name, one in vars(UnsubscribeCode).items() if isinstance(one, int)}


def codes_in_section(title):
    """Return the codes in the first column of the table under a heading of the document."""
    section = PROTOCOL.read_text(encoding="utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]
    return {int(code) for code in re.findall(r"^\| (\d{3,4}) \|", section, re.MULTILINE)}


def test_codes_of_requests_are_unique():
    """One code, one reason: clients decide by the number."""
    codes = [kind.code for kind in REQUEST_ERRORS]
    assert len(codes) == len(set(codes))
    # Ours are outside of the protocol's own range, and are those of HTTP.
    assert all(101 <= code <= 112 or code in {402, 404, 409, 429} for code in codes)


@pytest.mark.parametrize("kind", REQUEST_ERRORS)
def test_a_code_leads_back_to_its_error(kind):
    """A client raises what the hub raised."""
    error = error_from_code(kind.code, "expected this, got that")
    assert type(error) is kind
    assert error.message == str(error) == "expected this, got that"


@pytest.mark.parametrize("code", [0, 100, 113, 999])
def test_an_unknown_code_is_an_error_of_the_hub(code):
    """The number stays readable in the message."""
    error = error_from_code(code, "something else")
    assert isinstance(error, HubError)
    assert error.message == f"something else (code {code})"


def test_store_and_hub_errors_are_internal_and_temporary():
    """For a client they are 100: not its fault, worth another try; over HTTP a 503."""
    for kind in KINDS:
        if issubclass(kind, StoreError | HubError | DatabaseUnavailable):
            assert (kind.code, kind.temporary, kind.http_status) == (100, True, 503)


def test_http_statuses_say_whose_fault_it_is():
    """A request error is a 4xx, everything else a 5xx."""
    for kind in KINDS:
        assert kind.http_status // 100 == (4 if issubclass(kind, RequestError) else 5)


def test_a_refusal_of_the_store_keeps_its_first_word():
    """Callers decide by OOM, MISCONF or READONLY, not by prose."""
    assert errors.StoreRefused("OOM command not allowed").prefix == "OOM"
    assert errors.StoreRefused("").prefix == ""


def test_disconnects_fit_into_a_close_frame():
    """Codes are distinct private close codes, reasons shorter than 124 bytes."""
    assert len({one.code for one in DISCONNECTS.values()}) == len(DISCONNECTS)
    for one in DISCONNECTS.values():
        assert 3000 <= one.code <= 4999
        assert 0 < len(one.reason.encode()) < 124


@pytest.mark.parametrize(
    ("code", "comes_back"),
    [
        *[(3000, True), (3499, True), (3500, False), (3999, False), (4000, True), (4499, True)],
        *[(4500, False), (4999, False), (5000, True)],
    ],
)
def test_the_range_of_a_code_decides_whether_clients_come_back(code, comes_back):
    """The ranges are those that official clients have built in."""
    assert Disconnect(code, "why").reconnect is comes_back


def test_what_the_client_cannot_mend_is_terminal():
    """A wrong token or request would fail again; a restart or a slow network would not."""
    terminal = {name for name, one in DISCONNECTS.items() if not one.reconnect}
    assert terminal == {
        "INVALID_TOKEN",
        "BAD_REQUEST",
        "STALE",
        "SESSION_REVOKED",
        "CONNECTION_LIMIT",
        "CHANNEL_LIMIT",
        "INAPPROPRIATE_PROTOCOL",
        "PERMISSION_DENIED",
    }


def test_every_code_is_in_the_document():
    """docs/protocol.md lists the codes that exist, and no others."""
    assert codes_in_section("Error codes") == {kind.code for kind in KINDS}
    assert codes_in_section("Disconnect codes") == {one.code for one in DISCONNECTS.values()}
    assert codes_in_section("Unsubscribe codes") == set(UNSUBSCRIBES.values())
    text = PROTOCOL.read_text(encoding="utf-8")
    for one in DISCONNECTS.values():
        assert f"| {one.code} | {one.reason} |" in text


def test_the_tree_in_the_docstring_is_the_tree():
    """Every class is drawn, with its code and whether it is temporary."""
    drawn = {
        name: (code, temporary)
        for name, code, temporary in re.findall(
            r"[|']- (\w+) +(?:(\d{3}) *(temporary)?)?", errors.__doc__ or ""
        )
    }
    drawn_codes = {name: value for name, value in drawn.items() if value[0]}
    assert set(drawn) == {kind.__name__ for kind in KINDS} - {"FanwireError"}
    for kind in KINDS:
        if kind.__name__ in drawn_codes:
            expected = (str(kind.code), "temporary" if kind.temporary else "")
            assert drawn_codes[kind.__name__] == expected
