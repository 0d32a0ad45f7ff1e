"""Finding the declaration that a channel's name belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels import Catalogue, ChannelDeclaration
from channels.catalogue import BUILT_IN, SESSION, USAGE
from channels.errors import BadRequest, SettingsError, UnknownChannel

from .strategies import ids


def declare(*patterns):
    """Return a catalogue of plain declarations."""
    return Catalogue([ChannelDeclaration(pattern) for pattern in patterns])


def test_finds_a_channel_with_its_parameters_and_root():
    """The root is the aggregate that the declaration names."""
    channel = Catalogue().find("session:w1:s1")
    assert channel.name == "session:w1:s1"
    assert channel.declaration is SESSION
    assert channel.params == {"workspace": "w1", "session": "s1"}
    assert channel.root == "w1"
    assert Catalogue().find("usage:u1").root == "u1"


def test_a_channel_of_no_aggregate_is_its_own_root():
    """Its keys share a slot with each other and nothing else."""
    assert Catalogue().find("hub:nodes").root == "hub:nodes"


@pytest.mark.parametrize("declaration", BUILT_IN, ids=lambda one: one.pattern)
@given(data=st.data())
def test_every_built_in_channel_is_found_by_any_name_it_builds(declaration, data):
    """The declaration found is the one that built the name, open catalogue or not."""
    params = {name: data.draw(ids) for name in declaration.params}
    name = declaration.name(**params)
    for catalogue in (Catalogue(), Catalogue(allow_undeclared=True)):
        channel = catalogue.find(name)
        assert channel.declaration is declaration
        assert channel.params == params


@given(st.text(max_size=40))
def test_any_text_is_a_channel_or_a_request_error(text):
    """Unknown and impossible names are told apart, and nothing else is raised."""
    try:
        channel = Catalogue().find(text)
    except (BadRequest, UnknownChannel):
        return
    assert channel.declaration.name(**channel.params) == text


@pytest.mark.parametrize(
    "name", ["", "a b", "x:{y}", "queue:*", "session:w1:s1\n", "\u00e4", "x" * 256]
)
def test_an_impossible_name_is_a_bad_request(name):
    """Undeclared channels allowed or not."""
    for catalogue in (Catalogue(), Catalogue(allow_undeclared=True)):
        with pytest.raises(BadRequest):
            catalogue.find(name)


def test_an_unknown_namespace_is_told_the_known_ones():
    """The message helps to find the typing error."""
    with pytest.raises(UnknownChannel, match="'sessions:w1:s1' is in no declared namespace"):
        Catalogue().find("sessions:w1:s1")


@pytest.mark.parametrize("open_", [False, True])
def test_a_wrong_name_in_a_known_namespace_is_told_the_pattern(open_):
    """Even where undeclared channels work, a declared namespace is not theirs."""
    with pytest.raises(UnknownChannel, match=r"does not match session:\{workspace\}:\{session\}"):
        Catalogue(allow_undeclared=open_).find("session:w1")


@pytest.mark.parametrize("name", ["news", "news:a", "a:b:c", ":", "session"])
def test_undeclared_channels_work_when_allowed(name):
    """With or without a namespace, with default history and any JSON."""
    channel = Catalogue(allow_undeclared=True).find(name)
    assert (channel.name, channel.root, channel.params) == (name, name, {})
    assert channel.declaration.history.size == 2_000
    assert channel.declaration.history.ttl_s == 300
    assert channel.declaration.check_data(b"1") is None
    with pytest.raises(UnknownChannel):
        Catalogue().find(name)


def test_namespaces_that_begin_alike_do_not_mix():
    """A namespace ends at the first colon."""
    catalogue = declare("a:{x}", "ab:{x}", "a.b:{x}", "a:{x}:{y}")
    for name, pattern in {
        "a:1": "a:{x}",
        "ab:1": "ab:{x}",
        "a.b:1": "a.b:{x}",
        "a:1:2": "a:{x}:{y}",
    }.items():
        assert catalogue.find(name).declaration.pattern == pattern


@pytest.mark.parametrize("patterns", [("a:{x}", "a:lit"), ("a:lit", "a:{x}")])
def test_literal_text_wins_over_a_parameter(patterns):
    """Whatever the order: the rules of a:{x} never open a:lit."""
    assert declare(*patterns).find("a:lit").declaration.pattern == "a:lit"
    assert declare(*patterns).find("a:other").declaration.pattern == "a:{x}"


def test_the_first_declaration_wins_among_equals():
    """Two patterns with as many parameters can both match; order decides."""
    catalogue = declare("a:{x}:b", "a:b:{x}")
    assert catalogue.find("a:b:b").declaration.pattern == "a:{x}:b"
    assert catalogue.find("a:b:c").declaration.pattern == "a:b:{x}"


@pytest.mark.parametrize("pattern", ["usage:{user}", "usage:{somebody}"])
def test_a_pattern_cannot_be_declared_twice(pattern):
    """Not under another parameter's name either."""
    with pytest.raises(SettingsError, match="is declared twice"):
        Catalogue([*BUILT_IN, ChannelDeclaration(pattern)])


def test_iterates_over_the_declarations_in_order():
    """For documents and listings."""
    assert tuple(Catalogue()) == BUILT_IN
    assert USAGE in Catalogue()
