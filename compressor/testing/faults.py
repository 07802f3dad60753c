"""What the contract kit finds."""

from collections.abc import Callable
from dataclasses import dataclass

Tell = Callable[[str, str], None]
"""Takes a fault's message and what to do about it."""


@dataclass(frozen=True)
class Fault:
    """One way in which a plugin does not keep the contract.

    Args:
        name: of the method or network. package: the distribution that brings it, None where nobody registered it.
        message: what is wrong. fix: what to do about it.
    """

    name: str
    package: str | None
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}"
