"""Rules: the text operators write, and what it lets through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import ANONYMOUS, Identity, Rule
from channels.errors import SettingsError

PARAMS = {"workspace": "w1", "user": "u1"}
ADA = Identity(user="u1", workspaces=frozenset({"w1", "w2"}), scopes=frozenset({"publish"}))
BOB = Identity(user="u2", workspaces=frozenset({"w2"}))


@pytest.mark.parametrize(
    ("text", "anonymous", "ada", "bob"),
    [
        ("nobody", False, False, False),
        ("anyone", True, True, True),
        ("authenticated", False, True, True),
        ("self", False, True, False),
        ("member", False, True, False),
        ("scope:publish", False, True, False),
        ("scope:pub", False, False, False),
        ("scope:publish | nobody", False, True, False),
        ("member & scope:publish", False, True, False),
        ("member&scope:hub", False, False, False),
        ("member & scope:hub | authenticated", False, True, True),
        ("authenticated | member & scope:hub", False, True, True),
        ("nobody & anyone", False, False, False),
        ("  anyone  ", True, True, True),
    ],
)
def test_what_a_rule_lets_through(text, anonymous, ada, bob):
    """Alternatives by |, conditions by &, which binds tighter."""
    rule = Rule(text)
    assert rule.allows(ANONYMOUS, PARAMS) is anonymous
    assert rule.allows(ADA, PARAMS) is ada
    assert rule.allows(BOB, PARAMS) is bob


def test_an_anonymous_caller_is_nobodys_self():
    """An empty user id matches no channel, not even one with an empty parameter."""
    assert not Rule("self").allows(ANONYMOUS, {"user": ""})


def test_a_rule_says_which_parameters_it_reads():
    """So that a pattern without them is refused when it is declared."""
    assert Rule("self | member & scope:a").needs == {"user", "workspace"}
    assert Rule("anyone | scope:a").needs == set()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "|",
        "&",
        "member &",
        "| member",
        "member || self",
        "Member",
        "member self",
        "scope:",
        "scope: ",
        "scope: a",
        "scope:a b",
        "scope",
        "scope:\n",
        "user:u1",
        "*",
    ],
)
def test_a_rule_that_means_nothing_is_refused(text):
    """The message quotes the rule and lists what can be used."""
    with pytest.raises(SettingsError) as caught:
        Rule(text)
    assert repr(text) in caught.value.message
    assert "authenticated, self, member, scope:NAME" in caught.value.message


@given(st.text(max_size=30))
def test_any_text_is_a_rule_or_a_settings_error(text):
    """No text makes anything else happen, and only 'anyone' lets an anonymous caller in."""
    try:
        rule = Rule(text)
    except SettingsError:
        return
    assert not rule.allows(ANONYMOUS, PARAMS) or "anyone" in text
