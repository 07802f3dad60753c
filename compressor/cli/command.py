"""Makes Typer commands out of functions: adds the settings of the table, the global options, and environment names."""

import inspect
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from compressor.cli.help import MORE, PlainCommand
from compressor.cli.options import FLAG, METHOD, OUTPUT, Setting, variable
from compressor.cli.output import Output
from compressor.cli.settings import Given

Color = Literal["auto", "always", "never"]


@dataclass(frozen=True)
class Ask:
    """What a command gets beside its own options: the settings that were typed, and where to speak."""

    given: Given
    output: Output

    @property
    def line(self) -> str:
        """The command line as it was typed."""
        return shlex.join(["compress", *sys.argv[1:]])


def command(
    app: typer.Typer,
    name: str,
    *,
    examples: Sequence[str],
    settings: Sequence[Setting] | None = None,
    panel: str = MORE,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function ``(ask: Ask, **own options) -> None`` as a command.

    Args:
        examples: command lines that work as they stand; help shows them first.
        settings: which settings of a run it takes; None for none, then it takes no ``--config`` and no ``--set``.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]
        wrapped = _wrapped(function, own, settings)
        about = inspect.getdoc(function) or ""
        app.command(
            name,
            cls=PlainCommand,
            help=about,
            short_help=" ".join(about.split("\n\n", maxsplit=1)[0].split()),
            epilog="\n".join(examples),
            rich_help_panel=panel,
            no_args_is_help=False,
        )(wrapped)
        return function

    return register


def globals_of_every_command() -> list[inspect.Parameter]:
    """Return the global options; `compressor.cli.manner` reads them, here they get their help and completion."""
    return [
        _flag("json", "One JSON document on stdout, also for errors."),
        _flag("quiet", "Print the path of the result and nothing else.", "-q"),
        _flag("verbose", "Say more.", "-v"),
        _parameter(
            "color",
            Color,
            "auto",
            typer.Option("--color", help="Colours.", metavar="auto|always|never", **_shared("color", "auto", OUTPUT)),
        ),
        _flag("no-progress", "No live line."),
        _flag("debug", "Show the traceback of an error."),
    ]


def _wrapped(
    function: Callable[..., None], own: list[inspect.Parameter], settings: Sequence[Setting] | None
) -> Callable[..., None]:
    files = _files() if settings is not None else []
    parameters = [*map(_with_variable, own), *map(_of_setting, settings or ()), *files, *globals_of_every_command()]
    own_names = [item.name for item in own]

    def run(context: typer.Context, **values: Any) -> None:
        given = Given(
            settings=settings or (),
            options={item.option: _texts(values[item.parameter]) for item in settings or ()},
            config=values.get("config") or (),
            assignments=values.get("set_values") or (),
            recipe=values.get("recipe"),
        )
        function(Ask(given, context.obj), **{name: values[name] for name in own_names})

    _sign(run, parameters)
    return run


def sign_group(callback: Callable[..., None]) -> Callable[..., None]:
    """Give a group's callback the global options."""

    def run(context: typer.Context, **values: Any) -> None:
        callback(context, **{key: value for key, value in values.items() if key == "version"})

    version = _flag("version", "Show versions and exit.")
    return _sign(run, [version, *globals_of_every_command()])


def sign_subgroup() -> Callable[..., None]:
    """Return the callback of a command that has commands: alone it shows its help."""

    def run(context: typer.Context, **_: Any) -> None:
        if context.invoked_subcommand is None:
            context.obj.result(context.get_help().rstrip())
            raise typer.Exit

    return _sign(run, globals_of_every_command())


def _sign(function: Callable[..., None], parameters: list[inspect.Parameter]) -> Callable[..., None]:
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in (context, *parameters)]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it
    function.__annotations__ = {item.name: item.annotation for item in parameters}
    return function


def _files() -> list[inspect.Parameter]:
    more = typer.Option(
        "--recipe", help="Named recipe of the zoo.", metavar="NAME", **_shared("recipe", "none", METHOD)
    )
    config = typer.Option(
        "--config",
        help="TOML file of settings; may be given many times, later ones win.",
        metavar="FILE",
        **_shared("config", "none", METHOD, typer_reads=False),
    )
    assign = typer.Option(
        "--set",
        help="Any setting by its key; may be given many times.",
        metavar="KEY=VALUE",
        **_shared("set", "none", METHOD, typer_reads=False),
    )
    return [
        _parameter("recipe", str | None, None, more),
        _parameter("config", list[str] | None, None, config),
        _parameter("set_values", list[str] | None, None, assign),
    ]


def _of_setting(setting: Setting) -> inspect.Parameter:
    """Make a setting's parameter: texts, so that option and variable are read alike, and a list, so that two show."""
    names = [f"--{setting.option}", *([f"-{setting.short}"] if setting.short else [])]
    shared = _shared(setting.option, setting.shown_default(), setting.panel, typer_reads=False)
    if setting.kind is FLAG:
        option = typer.Option(f"--{setting.option}/--no-{setting.option}", help=setting.help, **shared)
        return _parameter(setting.parameter, bool | None, None, option)
    option = typer.Option(*names, help=setting.help, metavar=setting.metavar, **shared)
    return _parameter(setting.parameter, list[str] | None, None, option)


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(value).lower()] if isinstance(value, bool) else list(value)


def _with_variable(parameter: inspect.Parameter) -> inspect.Parameter:
    """Give a command's own option its environment variable."""
    for item in getattr(parameter.annotation, "__metadata__", ()):
        if hasattr(item, "envvar") and hasattr(item, "show_choices") and hasattr(item, "prompt"):
            item.envvar = item.envvar or variable(_long_name(parameter, item))
            item.show_envvar = False
    return parameter


def _long_name(parameter: inspect.Parameter, option: Any) -> str:
    declared = [option.default, *(option.param_decls or ())]
    long = [name for name in declared if isinstance(name, str) and name.startswith("--")]
    return long[0].removeprefix("--").partition("/")[0] if long else parameter.name


def _flag(name: str, text: str, *short: str) -> inspect.Parameter:
    option = typer.Option(f"--{name}", *short, help=text, **_shared(name, "", OUTPUT, typer_reads=False))
    return _parameter(name.replace("-", "_"), bool, False, option)


def _shared(option: str, default: str, panel: str, *, typer_reads: bool = True) -> dict[str, Any]:
    """Return what all options have; variables of settings are read by `Given`, which knows their origin."""
    return {
        "envvar": variable(option) if typer_reads else None,
        "show_envvar": False,
        "show_default": default or False,
        "rich_help_panel": panel,
    }


def _parameter(name: str, kind: Any, default: Any, option: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])
