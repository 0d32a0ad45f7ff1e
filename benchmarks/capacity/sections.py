"""Parts of a Markdown file that a program writes, between two comments each."""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = ["replace_sections"]


def replace_sections(text: str, sections: Mapping[str, str]) -> str:
    """Return ``text`` with what stands between ``<!-- name -->`` and ``<!-- /name -->`` replaced.

    Raises:
        ValueError: a section is not there, or there twice.
    """
    for name, section in sections.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if (count := len(pattern.findall(text))) != 1:
            raise ValueError(f"expected one section {begin} ... {end}; there are {count}")
        before, after = pattern.split(text)
        text = f"{before}{begin}\n{section.rstrip()}\n{end}{after}"
    return text
