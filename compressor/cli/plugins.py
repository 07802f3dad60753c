"""``compress plugins``: who brings methods and networks, and whether they keep the contract."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from compressor.cli.command import Ask, command, sign_subgroup
from compressor.cli.help import MORE, PlainGroup
from compressor.cli.tables import aligned, tab_separated
from compressor.errors import CompressorError, PluginError

if TYPE_CHECKING:
    from compressor.testing.pairs import Verdict as PairVerdict

LIST_EXAMPLES = ("compress plugins list", "compress plugins list --json")
CHECK_EXAMPLES = ("compress plugins check", "compress plugins check kd")


@dataclass(frozen=True)
class Verdict:
    """Whether a method keeps the contract, every fault where it does not, and what it made of real networks."""

    name: str
    package: str
    faults: tuple[str, ...]
    pairs: "tuple[PairVerdict, ...]" = ()

    @property
    def bad(self) -> bool:
        """Whether anything is to be mended."""
        return bool(self.faults) or any(pair.faults for pair in self.pairs)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(cls=PlainGroup, rich_markup_mode=None, no_args_is_help=False)
    command(group, "list", examples=LIST_EXAMPLES, panel="Commands")(list_plugins)
    command(group, "check", examples=CHECK_EXAMPLES, panel="Commands")(check)
    about = "List what installed packages bring, and check methods against the contract."
    app.add_typer(
        group,
        name="plugins",
        cls=PlainGroup,
        help=about,
        short_help=about,
        epilog="compress plugins list\ncompress plugins check kd",
        rich_help_panel=MORE,
        callback=sign_subgroup(),
        invoke_without_command=True,
    )


def list_plugins(ask: Ask) -> None:
    """List methods, networks and recipes with the packages that bring them; nothing is imported."""
    from compressor.config.recipes import GROUP
    from compressor.registry import ARCHITECTURES, METHODS, names

    rows = [
        (kind, name, entry.value, entry.package)
        for kind, group in (("method", METHODS), ("architecture", ARCHITECTURES), ("recipes", GROUP))
        for name, entries in sorted(names(group).items())
        for entry in entries
    ]
    header = ("kind", "name", "object", "package")
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "plugins": [dict(zip(header, row, strict=True)) for row in rows]})
    elif ask.output.rich_tables:
        ask.output.result(aligned(header, rows, ask.output.columns))
    else:
        ask.output.result(tab_separated(header, rows))


def check(
    ask: Ask,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Of a method; all without it.")] = None,
) -> None:
    """Import a method and hold it to the contract: its class, settings, terms, gradients, precision, state, export.

    With NAME it is also run forward and backward once on real networks; a pair that it refuses is no fault.
    Exit code 3 when one has a fault.
    """
    from compressor.cli.names import check_method
    from compressor.registry import METHODS, names

    known = names(METHODS)
    if name is not None:
        check_method(name)
    chosen = sorted(known) if name is None else [name]
    verdicts = [_verdict(one, known[one][0].package, on_networks=name is not None) for one in chosen]
    _tell(ask, verdicts)
    if any(verdict.bad for verdict in verdicts):
        raise typer.Exit(PluginError.exit_code)


def _verdict(name: str, package: str, *, on_networks: bool) -> Verdict:
    faults = tuple(faults_of(name))
    return Verdict(name, package, faults, tuple(pairs_of(name)) if on_networks and not faults else ())


def faults_of(name: str) -> list[str]:
    """Return every fault of a method, in words."""
    from compressor.registry import METHODS, load
    from compressor.testing import check_distiller

    try:
        return [str(fault) for fault in check_distiller(load(METHODS, name, kind="method"))]
    except CompressorError as error:
        return [error.message]


def pairs_of(name: str) -> "list[PairVerdict]":
    """Try a method that keeps the contract on real networks."""
    from compressor.registry import load_method
    from compressor.testing.pairs import REAL_PAIRS, Networks

    method = load_method(name)
    return [Networks(pair).try_method(method) for pair in REAL_PAIRS]


def _tell(ask: Ask, verdicts: list[Verdict]) -> None:
    if ask.output.manner.json:
        bad = any(verdict.bad for verdict in verdicts)
        exit_code = PluginError.exit_code if bad else 0
        methods = [_document(one) for one in verdicts]
        ask.output.document({"schema": 1, "status": "failed" if bad else "done", "exit": exit_code, "methods": methods})
        return
    for one in verdicts:
        ask.output.result(f"{'fault' if one.bad else 'ok':6} {one.name}   ({one.package})")
        for line in [*one.faults, *(line for pair in one.pairs for line in _lines(pair))]:
            ask.output.result(f"       {line}")


def _document(one: Verdict) -> dict[str, object]:
    pairs = [
        {
            "teacher": pair.pair.teacher,
            "student": pair.pair.student,
            "refused": pair.refused,
            "hint": pair.hint,
            "faults": list(pair.faults),
        }
        for pair in one.pairs
    ]
    return {"name": one.name, "package": one.package, "faults": list(one.faults), "pairs": pairs}


def _lines(verdict: "PairVerdict") -> list[str]:
    if verdict.faults:
        return [f"{verdict.pair.label}   {fault}" for fault in verdict.faults]
    return [f"{verdict.pair.label}   {'runs' if verdict.refused is None else f'refused: {verdict.refused}'}"]
