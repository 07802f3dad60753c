"""Checks names before anything heavy is imported: a typing error is told in a blink."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from compressor.registry import METHODS, load, names

if TYPE_CHECKING:
    from compressor.config.settings import RunConfig


def check_names(config: "RunConfig", methods: Iterable[str] | None = None) -> None:
    """Make sure that teacher, student and methods exist, as far as their names tell.

    Args:
        methods: instead of the settings' own.

    Raises:
        UsageError: an unknown or ambiguous name, with the nearest ones.
    """
    from compressor.models.catalogue import resolve_name

    for method in [config.method.name] if methods is None else methods:
        check_method(method)
    resolve_name(config.teacher.name, role="teacher")
    resolve_name(config.student.name, role="student")


def check_method(name: str) -> None:
    """Make sure that somebody brings a method.

    Raises:
        UsageError: nobody does.
    """
    if name not in names(METHODS):
        load(METHODS, name, kind="method")  # its error names the nearest
