"""Markdown from text that nobody vetted: no markup, no links, no mentions that would notify people."""

import re

from backscan.scanner.reports.text import printable

# What GitHub and GitLab give a meaning inside a line.
_SPECIAL = re.compile(r"([\\`*_\[\]|~#$])")
# A colon before slashes or a dot after www would become a link.
_LINK = re.compile(r"(:)(?=//)|(?<=www)(\.)", re.IGNORECASE)
# What would start a list, a quotation or a heading at the beginning of a line.
_START = re.compile(r"^(\s*\d*)([-+=.)])")


def plain(text: str) -> str:
    """`text` as Markdown that shows exactly it."""
    shown = printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = _LINK.sub(lambda match: f"\\{match.group()}", _SPECIAL.sub(r"\\\1", shown))
    return _START.sub(r"\1\\\2", shown).replace("@", "<code>@</code>")  # a mention is found after unescaping


def code(text: str) -> str:
    """`text` in a code span: for names, digests and commands."""
    shown = printable(text).replace("|", "\\|")  # also splits table cells inside code
    fence = "`" * (1 + _longest_run(shown))
    padding = " " if shown.startswith("`") or shown.endswith("`") or not shown else ""
    return f"{fence}{padding}{shown or '(no name)'}{padding}{fence}"


def block(text: str) -> str:
    """`text` as a code block of any content."""
    shown = printable(text, keep_newlines=True)
    fence = "`" * max(3, 1 + _longest_run(shown))
    return f"{fence}text\n{shown}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
