"""Options of ``compress compare`` that take several values: what was asked for, and how the outcome is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.cli.command import Ask
from compressor.cli.faults import fault_of
from compressor.cli.names import check_names
from compressor.cli.options import SCENARIO, Setting
from compressor.cli.settings import Given
from compressor.errors import GateError, UsageError

if TYPE_CHECKING:
    from compressor.comparison.sweep import Sweep
    from compressor.config.settings import RunConfig


@dataclass(frozen=True)
class Asked:
    """An option that was given several values, as ``--fraction 25,50``.

    Args:
        setting: the option. values: as they were read, without repetition, in the order given.
    """

    setting: Setting
    values: tuple[float, ...]

    def at(self, given: Given, value: float) -> Given:
        """Return what was typed with one of the values in place of all of them."""
        return replace(given, options={**given.options, self.setting.option: [repr(value)]})


def sweepable(settings: Sequence[Setting]) -> tuple[Setting, ...]:
    """Return settings whose help says of those that take several values that they do."""
    return tuple(
        replace(setting, help=f"{setting.help} Several values make a sweep.") if setting.option in SCENARIO else setting
        for setting in settings
    )


def take_sweep(ask: Ask) -> tuple[Ask, Asked | None]:
    """Take the option with several values out of what was typed.

    Returns:
        What was typed beside it, and the option; None where every option has one value.

    Raises:
        UsageError: more than one option has several values, an option is given twice, or a value cannot be.
    """
    given = ask.given
    found = [
        setting
        for setting in given.settings
        if setting.option in SCENARIO and any("," in text for text in given.options.get(setting.option, ()))
    ]
    if not found:
        return ask, None
    if len(found) > 1:
        names = " and ".join(f"--{setting.option}" for setting in found)
        raise UsageError(f"{names} both have several values", hint="sweep one of them, and give the other one value")
    [setting] = found
    rest = replace(given, options={key: texts for key, texts in given.options.items() if key != setting.option})
    return replace(ask, given=rest), Asked(setting, _values(setting, given))


def run_sweep(
    ask: Ask,
    asked: Asked,
    methods: list[str],
    seeds: int,
    pairs: list[tuple[str, str]] | None,
    baseline: str | None,
    out: Path | None,
    condition: str | None,
    *,
    equal_compute: bool = True,
) -> int:
    """Compare at each value and tell what came out.

    Args:
        condition: of ``--fail-under``, which must hold at every value; None for none.

    Returns:
        The exit code: 0, that of a comparison that failed, or that of ``condition`` not being met.

    Raises:
        UsageError: a value is out of range, or a name is unknown.
    """
    from compressor.cli.distill import begin
    from compressor.cli.listeners import listening

    def config_for(overrides: Mapping[str, Any]) -> "RunConfig":
        others = {key: value for key, value in overrides.items() if key != asked.setting.key}
        given = asked.at(ask.given, overrides[asked.setting.key]) if asked.setting.key in overrides else ask.given
        return given.resolved(others).config

    configs = [config_for({asked.setting.key: value}) for value in asked.values]
    for teacher, student in pairs or []:
        check_names(config_for({"teacher.name": teacher, "student.name": student}), methods)
    begin(ask, configs[0], methods, seeds)
    from compressor.comparison.sweep import sweep

    chosen: dict[str, Any] = {} if baseline is None else {"baseline": baseline}
    with listening(ask.output, many=True) as listener:
        made = sweep(
            config_for,
            option=asked.setting.option,
            key=asked.setting.key,
            values=asked.values,
            methods=methods,
            seeds=seeds,
            pairs=pairs,
            equal_compute=equal_compute,
            out=out,
            listener=listener,
            command=ask.line,
            **chosen,
        )
    failure = None if condition is None else _gate(made, condition)
    _tell(ask, made, failure)
    if failure is not None:
        ask.output.fail(fault_of(failure), documented=True)
        return failure.exit_code
    return made.exit_code


def _values(setting: Setting, given: Given) -> tuple[float, ...]:
    texts, name = given.options[setting.option], f"--{setting.option}"
    if len(texts) > 1:
        raise UsageError(f"{setting.key} is given twice, once as {name} {texts[0]}", hint="leave one of them out")
    words = [word.strip() for word in texts[0].split(",")]
    if not all(words):
        raise UsageError(f"{name} {texts[0]!r} has an empty value in it", hint=f"{name} 25,50,100")
    return tuple(dict.fromkeys(setting.read(word, name) for word in words))


def _gate(made: "Sweep", condition: str) -> GateError | None:
    from compressor.comparison.gate import check

    for value, comparison in made.pairs:
        try:
            check(comparison, condition)
        except GateError as failure:
            return GateError(f"{made.option} {value:g}: {failure.message}", hint=failure.hint)
    return None


def _tell(ask: Ask, made: "Sweep", failure: GateError | None) -> None:
    from compressor.cli.tables import sweep_table, sweep_tsv

    output, rows = ask.output, [(value, comparison.rows) for value, comparison in made.pairs]
    if output.manner.json:
        gate = fault_of(failure).document() | {"gate": failure.message} if failure is not None else {}
        output.document(made.document() | gate)
        return
    if output.manner.quiet:
        output.result(str(made.folder))
        return
    output.result(
        sweep_table(made.option, rows, output.columns) if output.rich_tables else sweep_tsv(made.option, rows)
    )
    for value, comparison in made.pairs:
        output.talk(f"{made.option} {value:g}: {comparison.verdict}")
    if made.page is not None:
        output.talk(f"picture: {made.page}")
