"""Published tables: what a paper says of pairs and methods, and what others got when they ran it again.

They lie as JSON files in the folder ``published`` of every package that brings recipes.
"""

from collections.abc import Mapping
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from compressor.comparison.ledger.packages import documents
from compressor.errors import InputError, PluginError, UsageError, suggestion
from compressor.models.catalogue import resolve_name
from compressor.storage import read_json

FOLDER = "published"
_STRICT = ConfigDict(extra="forbid")


@checked(frozen=True, kw_only=True, config=_STRICT)
class Rerun:
    """What somebody else got with the same method: mean and deviation in percent, None for one run."""

    mean: float
    sd: float | None = None
    n: int


@checked(frozen=True, kw_only=True, config=_STRICT)
class PublishedPair:
    """One pair of networks, by their full names: ``published`` top-1 in percent by method, ``teacher`` among them."""

    teacher: str
    student: str
    published: dict[str, float]
    rerun: dict[str, Rerun]

    @property
    def name(self) -> str:
        """``TEACHER:STUDENT``, as it is typed: short names."""
        return f"{short(self.teacher)}:{short(self.student)}"


@checked(frozen=True, kw_only=True, config=_STRICT)
class PublishedTable:
    """One table.

    Args:
        source: who published it, where. rule: how many runs, and how their epoch was chosen. data: source of the
            images. recipe: that trains as the table's authors did, or None. rerun_source: who ran it again.
        notes: what a reader of the numbers must know.
    """

    schema: int
    table: str
    title: str
    source: str
    rule: str
    data: str
    recipe: str | None = None
    rerun_source: str | None = None
    notes: tuple[str, ...] = ()
    pairs: tuple[PublishedPair, ...]

    def pair(self, teacher: str, student: str) -> PublishedPair | None:
        """Return what was published of a pair, by full names; None for nothing."""
        return next((pair for pair in self.pairs if (pair.teacher, pair.student) == (teacher, student)), None)

    def named(self, text: str) -> PublishedPair:
        """Return the pair that ``TEACHER:STUDENT`` means; one of no published numbers where the table has none.

        A short name that would be ambiguous elsewhere means the table's network.

        Raises:
            UsageError: not two names, or a network that does not exist.
        """
        teacher, colon, student = text.rpartition(":")
        if not (colon and teacher and student):
            raise UsageError(f"--pair {text!r} is not TEACHER:STUDENT", hint=f"for example {self.pairs[0].name}")
        own = {short(name): name for pair in self.pairs for name in (pair.teacher, pair.student)}
        names = [
            own.get(name) or resolve_name(name, role=role).registered
            for name, role in ((teacher, "teacher"), (student, "student"))
        ]
        return self.pair(*names) or PublishedPair(teacher=names[0], student=names[1], published={}, rerun={})


def all_tables() -> Mapping[str, PublishedTable]:
    """Read the published tables of every installed package that brings recipes, by name.

    Raises:
        PluginError: a file is no such table, or two packages have one name.
    """
    found: dict[str, PublishedTable] = {}
    for package, file in documents(FOLDER):
        try:
            table = read_table(file)
        except InputError as cause:
            raise PluginError(f"published tables of {package}: {cause.message}") from cause
        if table.table in found:
            raise PluginError(f"the published table {table.table!r} is in two packages, one is {package}")
        found[table.table] = table
    return found


def find_table(name: str) -> PublishedTable:
    """Return a published table.

    Raises:
        UsageError: there is none of that name.
    """
    tables = all_tables()
    if name not in tables:
        raise UsageError(f"no published table named {name!r}", hint=suggestion(name, tables) or None)
    return tables[name]


def read_table(file: Path) -> PublishedTable:
    """Read one table.

    Raises:
        InputError: missing, no JSON, or not of the shape.
    """
    try:
        return TypeAdapter(PublishedTable).validate_python(read_json(file))
    except ValidationError as cause:
        first = cause.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{file} is no published table: {place}: {first['msg'].lower()}") from cause


def short(name: str) -> str:
    """Return a network's name without the prefix of the package that brings it."""
    return resolve_name(name).display
