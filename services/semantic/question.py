"""What is asked, with everything that its answer depends on. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from channels.errors import BadRequest

from .entry import Scope, normal, prompt_id, tag
from .settings import SemanticSettings
from .skip import skip_prompt

__all__ = ["LONGEST_NAME", "Question", "check_names", "check_text", "make_question"]

#: Characters of a tag, a category, a hash of the application's own.
LONGEST_NAME = 200


class Question(NamedTuple):
    """A prompt, normal, with everything that its answer depends on; ``skip`` why it is none."""

    prompt: str
    id: str
    scope: Scope
    category: str = ""
    skip: str = ""
    hashed: bool = False

    @property
    def partition(self) -> str:
        """What is compared with it."""
        return self.scope.partition

    def tags(self) -> list[str]:
        """Return the tags that follow from its scope."""
        tags = [tag("m", self.scope.model), tag("v", self.scope.prompt_version)]
        return [*tags, tag("u", self.scope.user)] if self.scope.user else tags


def make_question(
    scope: Scope,
    prompt: str,
    settings: SemanticSettings,
    *,
    category: str,
    temperature: float,
    tools: bool,
    user_specific: bool,
) -> Question:
    """Return the question, or one that says why it is none.

    Raises:
        BadRequest: an argument is no text.
    """
    if not isinstance(category, str) or len(category) > LONGEST_NAME or not _is_text(category):
        raise BadRequest(f"expected a category of at most {LONGEST_NAME} characters")
    if not isinstance(prompt, str):
        raise BadRequest(f"expected a prompt as text; got {type(prompt).__name__}")
    limit = settings.max_prompt_bytes
    # Before anything looks at it: megabytes are no question.
    if len(prompt) > limit:
        return Question("", "", scope, category, skip="long")
    text = normal(prompt)
    skip = ""
    try:
        if len(text.encode()) > limit:
            skip = "long"
    except UnicodeEncodeError:
        return Question("", "", scope, category, skip="text")
    if not text.strip("\0 \n\t"):
        skip = "empty"
    elif tools:
        skip = "tools"
    elif user_specific and not scope.user:
        skip = "user"
    skip = skip or skip_prompt(text, settings.skip, user=scope.user, temperature=temperature)
    return Question(text, prompt_id(scope.partition, text), scope, category, skip)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_names(names: Sequence[str]) -> list[str]:
    """Return names as a list; a text alone is refused, for it would be taken letter by letter."""
    many = [] if isinstance(names, str) else list(names)
    if isinstance(names, str) or not all(isinstance(one, str) for one in many):
        raise BadRequest(f"expected a list of texts; got {names!r:.80}")
    return many


def check_text(value: str, what: str, longest: int) -> None:
    """Refuse what is no text of 1 to ``longest`` characters."""
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BadRequest(f"expected {what} of 1 to {longest} characters; got {value!r:.80}")
