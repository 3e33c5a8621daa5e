"""Write the pages that are made from the code: every option, and every kind of finding.

python docs/.tools/generate.py            # write them
python docs/.tools/generate.py --check    # exit 1 if one is out of date
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer

from backscan.scanner.cli.app import app
from backscan.scanner.reports import RENDERERS
from backscan.scanner.reports.rules import RULES

DOCS = Path(__file__).parents[1]
WORDS = {Path: "PATH", str: "TEXT", int: "INTEGER", float: "NUMBER", bool: "FLAG"}
NOTE = "<!-- Made by docs/.tools/generate.py: change the code, then run it. -->"


def pages() -> dict[Path, str]:
    """Text of every generated page."""
    return {DOCS / "options.md": "\n".join(options()), DOCS / "findings.md": "\n".join(findings())}


def options() -> Iterator[str]:
    """Every command with its arguments and options."""
    yield from ("# Every option", "", NOTE, "")
    yield from ("Options before the command hold for all of them.", "")
    group: Any = typer.main.get_command(app)
    yield from table("`scanner`", group.params)
    for name, command in group.commands.items():
        arguments = " ".join(each.name.upper() for each in command.params if not opens_with_dash(each))
        yield from (f"## scanner {name}", "", text(command.help), "")
        yield from ("```sh", f"scanner {name} {arguments}".rstrip() + " [OPTIONS]", "```", "")
        for title in dict.fromkeys(panel(each) for each in command.params):
            yield from table(title, [each for each in command.params if panel(each) == title])
    yield from ("## Report formats", "", "| format | suffix | what it is for |", "| --- | --- | --- |")
    for name, renderer in RENDERERS.items():
        suffixes = ", ".join(f"`{suffix}`" for suffix in renderer.suffixes) or "standard output"
        yield f"| `{name}` | {suffixes} | {renderer.about} |"
    yield ""


def table(title: str, parameters: list[Any]) -> Iterator[str]:
    """One panel of options."""
    yield from (f"**{title}**", "", "| option | value | default | meaning |", "| --- | --- | --- | --- |")
    for each in parameters:
        spelling = ", ".join(f"`{name}`" for name in (*each.opts, *each.secondary_opts))
        value = "" if getattr(each, "is_flag", False) else f"`{value_of(each)}`"
        yield f"| {spelling} | {value} | {default_of(each)} | {text(each.help)} |"
    yield ""


def value_of(parameter: Any) -> str:
    """What kind of value an option takes."""
    kind = parameter.type_descriptor.annotation
    parts = [part for part in get_args(kind) if part is not type(None)] or [kind]
    words = " ".join(WORDS[part] for part in parts)
    return f"{words} ..." if parameter.multiple or parameter.nargs == -1 else words


def default_of(parameter: Any) -> str:
    """The default, where there is one to tell."""
    value = parameter.default
    if value is None or value is False or getattr(parameter, "required", False):
        return "required" if getattr(parameter, "required", False) else ""
    return f"`{value}`"


def panel(parameter: Any) -> str:
    """The heading that `--help` puts over the option."""
    return parameter.rich_help_panel or ("Options" if opens_with_dash(parameter) else "Arguments")


def opens_with_dash(parameter: Any) -> bool:
    """Whether it is an option and no argument."""
    return any(name.startswith("-") for name in parameter.opts)


def text(help_text: str | None) -> str:
    """A help text in one table cell."""
    return " ".join((help_text or "").split()).replace("|", "\\|")


def findings() -> Iterator[str]:
    """Every rule with its help."""
    yield from ("# Every kind of finding", "", NOTE, "")
    yield from (
        "Rule identifiers are stable: SARIF results, JUnit failures, suppressions and `--baseline` name them.",
        "A finding is the same in two scans if model, rule, source and target are the same.",
        "",
    )
    for rule in RULES:
        yield from (f"## `{rule.id}`", "", f"{rule.short} Level: {rule.level}.", "", rule.help, "")


def main() -> int:
    """Write or check."""
    stale = [path for path, page in pages().items() if not path.exists() or path.read_text("utf-8") != page]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.name} is out of date: run docs/.tools/generate.py\n")
        return 1 if stale else 0
    for path, page in pages().items():
        path.write_text(page, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
