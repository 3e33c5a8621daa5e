"""What the intake found against the policy, collected while it looks."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from backscan.converters.intake.policy import Policy

_MAX_PER_RULE = 5
_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that the policy does not allow."""

    rule: str
    """Stable identifier of the rule, such as `external-path`."""
    message: str
    """What was expected, what was found, where, and what to do."""
    limit: float | None = None
    """What the policy allows, where that is a number."""
    actual: float | None = None
    """What was found, where that is a number."""


class Violations:
    """A list that grows while the intake looks; of each rule only the first few cases are kept."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._kept: list[Violation] = []
        self._counts: Counter[str] = Counter()

    def forbid(self, rule: str, message: str) -> None:
        """Note something that is not allowed at all."""
        self._add(Violation(rule, message))

    def bound(self, limit: str, actual: int, what: str) -> bool:
        """Note that there is more of something than a limit of the policy allows, if so.

        Args:
            limit: Field of the policy, which is also the rule.
            actual: What was found.
            what: What is counted, and where, for the message.

        Returns:
            Whether it is within the limit.
        """
        allowed = int(getattr(self.policy, limit))
        if actual > allowed:
            found = str(actual) if actual < 10**18 else "far more"
            sentence = (
                f"expected at most {allowed} {what}, found {found}: raise `{limit}` of the policy if you trust it"
            )
            self._add(Violation(limit, sentence, float(allowed), float(min(actual, 10**300))))
        return actual <= allowed

    def freeze(self) -> tuple[Violation, ...]:
        """All that were kept, in the order of being found."""
        return tuple(self._kept)

    def _add(self, violation: Violation) -> None:
        self._counts[violation.rule] += 1
        if self._counts[violation.rule] <= _MAX_PER_RULE:
            self._kept.append(violation)


def as_text(text: str | bytes) -> str:
    """A text from the file; what is not UTF-8 arrives as bytes, and is spelled out."""
    return text if isinstance(text, str) else repr(text)


def shown(text: str | bytes) -> str:
    """A text from the file for a message: short, and without anything that a terminal would act on."""
    text = as_text(text)
    return ascii(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")
