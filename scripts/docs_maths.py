"""A mkdocs hook that turns LaTeX into MathML, which browsers draw themselves, so that a page needs no network."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

_FORMULA = re.compile(r'<(span|div) class="arithmatex">(.*?)</\1>', flags=re.DOTALL)


def on_page_content(content: str, **_: Any) -> str:
    """Replaces what ``pymdownx.arithmatex`` left of the formulas of a page."""
    return _FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display, latex = found[1] == "div", html.unescape(found[2]).strip()
    latex = latex.removeprefix(r"\[" if display else r"\(").removesuffix(r"\]" if display else r"\)")
    return convert(latex.strip(), display="block" if display else "inline")
