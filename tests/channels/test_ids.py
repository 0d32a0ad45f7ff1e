"""What an id may look like, and how a new one is made."""

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from channels.errors import BadRequest
from channels.ids import Id, check_id, new_id

from .strategies import ID_CHARACTERS, ids

decoder = msgspec.json.Decoder(Id)


@given(ids)
def test_ids_pass(text):
    """Every text of 1-64 allowed characters is an id, checked by hand or by a decoder."""
    assert check_id(text, "session") == text
    assert decoder.decode(msgspec.json.encode(text)) == text


@given(st.text(st.characters(codec="utf-8"), max_size=70))
@example("")
@example("x" * 65)
@example("a\n")
@example("\na")
@example("a\r")
@example("a\0")
@example("a\u2028")
@example("a\u0085")
@example("a:b")
@example("{a}")
@example("a*")
@example("a,b")
@example("ä")
@example("\u0661")
def test_anything_else_is_refused(text):
    """A text is an id exactly when its length and characters say so; the two checks agree."""
    if 1 <= len(text) <= 64 and set(text) <= set(ID_CHARACTERS):
        assume(text not in {".", ".."})
        assert check_id(text, "session") == text
        return
    with pytest.raises(BadRequest, match=r"\Asession must be 1-64 characters out of .+; got "):
        check_id(text, "session")
    with pytest.raises(msgspec.ValidationError):
        decoder.decode(msgspec.json.encode(text))


@pytest.mark.parametrize("text", [".", ".."])
def test_a_step_in_a_path_is_no_id(text):
    """Clients take it out of an address before they send it; what is stored can be read."""
    with pytest.raises(BadRequest, match=r"not \. or \.\. ; got"):
        check_id(text, "session")
    assert decoder.decode(msgspec.json.encode(text)) == text
    assert check_id("...", "session") == "..."


def test_an_error_does_not_repeat_a_huge_id():
    """What a caller sent comes back shortened."""
    with pytest.raises(BadRequest) as caught:
        check_id("x" * 100_000, "user")
    assert len(caught.value.message) < 200


def test_new_ids_are_ids_and_differ():
    """16 characters that pass the check; ten thousand are all different."""
    made = {new_id() for _ in range(10_000)}
    assert len(made) == 10_000
    assert all(check_id(one, "id") and len(one) == 16 for one in made)
