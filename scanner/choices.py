"""Which values options take: the names of table entries, read from the tables' text so that nothing heavy is loaded.

The tables are literal, so their text has every name. Nothing is imported for it, so whatever a table imports may ask
here what is allowed.
"""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from backscan.scanner.config import DETECTORS, OPTIONS, ScanConfig
from backscan.scanner.errors import InternalError, OptionError
from backscan.scanner.option import Option, Table

RENDERERS = Table("backscan.scanner.reports", "RENDERERS")
"""Report formats."""


@functools.cache
def names(table: Table) -> tuple[str, ...]:
    """Names of a table's entries, in its order.

    Raises:
        InternalError: no such table, or one that is not written as a literal mapping.
    """
    spec = find_spec(table.module)
    loader: Any = spec and spec.loader
    for node in ast.parse(loader.get_source(table.module) if loader else "").body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=table.name), value=ast.Call(args=[ast.Dict(keys=keys)])):
                found = tuple(str(key.value) for key in keys if isinstance(key, ast.Constant))
                if len(found) == len(keys):
                    return found
    raise InternalError(f"expected the literal table {table.name} in {table.module}, found none: write out its names")


def allowed(option: Option) -> tuple[str, ...]:
    """The values that an option may have; empty where any will do."""
    listed = ([choice] if isinstance(choice, str) else names(choice) for choice in option.choices)
    return tuple(name for group in listed for name in group)


def told(option: Option) -> str:
    """The help text of an option, its names and default filled in."""
    default, mark = option.default, "" if option.shown else " (by default)"
    marked = [f"{each}{mark}" if each == default else each for each in allowed(option)]
    written = " and ".join(map(str, default)) if isinstance(default, tuple) else default
    return option.about.format(names=listed(marked), default=written)


def listed(words: Sequence[str]) -> str:
    """`a, b or c`."""
    return " or ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def num_tests(config: ScanConfig) -> int:
    """Statistics of all chosen detectors of class pairs: they share one threshold."""
    pairwise = names(DETECTORS)
    return max(1, sum(name in pairwise for name in config.detectors) * len(config.statistics))


def check(config: ScanConfig) -> None:
    """Refuse values out of range and names that no table has.

    Raises:
        OptionError: the option, what was expected and what was found.
    """
    for name, option in OPTIONS.items():
        value = getattr(config, name)
        if value is not None:
            _check_value(option, value)
    if config.cut is not None and "features" not in config.detectors:
        raise OptionError(f"expected --detector features with --cut, found {', '.join(config.detectors)}: add it")
    if config.image_size is not None and min(config.image_size) < 1:
        raise OptionError("expected --image-size of at least 1 1, found {} {}".format(*config.image_size))
    _check_draws(config)


def _check_value(option: Option, value: Any) -> None:
    if option.low is not None and option.high is not None and not option.low <= value <= option.high:
        raise OptionError(f"expected {option.spelled} between {option.low:g} and {option.high:g}, found {value:g}")
    several = isinstance(value, tuple)
    if option.choices:
        choices = allowed(option)
        for each in value if several else (value,):
            if each not in choices:
                raise OptionError(f"expected {option.spelled} to be one of {', '.join(choices)}, found {each!r}")
        if several and (not value or len(set(value)) < len(value)):
            raise OptionError(
                f"expected at least one {option.spelled}, each of them once, found {', '.join(value) or 'none'}"
            )
    elif several and any(isinstance(each, float) and not math.isfinite(each) for each in value):
        raise OptionError(f"expected {option.spelled} of finite numbers, found {value}")


def _check_draws(config: ScanConfig) -> None:
    # With fewer draws even the least p-value, corrected for the number of tests, is above the threshold.
    fewest = math.ceil(num_tests(config) / config.significance - 1 - 1e-9)
    if not config.published_p and config.bootstrap_draws < fewest:
        raise OptionError(
            f"expected at least {fewest} bootstrap draws for --significance {config.significance:g}, found "
            f"{config.bootstrap_draws}: raise --bootstrap-draws or use --published-p"
        )
