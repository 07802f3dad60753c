"""Does a method keep the contract? Its class, settings, phases, terms, gradients and state, on made-up networks."""

import re
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from compressor.distiller import Distiller, Needs
from compressor.errors import UnsupportedPair
from compressor.registry import METHODS, entry_points, outline_faults
from compressor.testing import laws, products
from compressor.testing.faults import Fault, Tell
from compressor.testing.phases import checked_phases
from compressor.testing.scenes import CASES, Case
from compressor.testing.subject import AnyDistiller, Broken, Subject, guarded, in_words

_NAME = re.compile(r"[a-z0-9_]+")


def check_distiller(method: type[AnyDistiller], *, config: Any = None) -> list[Fault]:
    """Hold a method to the contract, on made-up pairs of networks with 2 and 10 classes.

    Looked at: name and entry point, settings, declared needs and those of each phase, phases, terms (0-d, finite; in
    bfloat16 and float16 too), gradients (to the student and to what a phase trains, never to a teacher that it does
    not), terms that claim to vanish between equals, tensors that were not declared or are overwritten, several
    micro-batches, the order of a batch, state that is saved and loaded (bit for bit), the plan, and what is published.

    Args:
        method: the class. config: its settings; None for the defaults.

    Returns:
        every fault, in the order found; empty when the method keeps the contract.
    """
    name, package = _registered(method)
    found: dict[str, Fault] = {}

    def tell(message: str, fix: str) -> None:
        found.setdefault(message, Fault(name, package, message, fix))

    outline = outline_faults(method, name)
    for fault in outline:
        tell(fault, "see compressor.distiller.Distiller")
    if not (isinstance(method, type) and issubclass(method, Distiller)):
        return list(found.values())
    if not _NAME.fullmatch(name):
        tell(f"its name is {name!r}", "use lower-case letters, digits and _")
    settings = _settings(method, tell) if config is None else config
    if outline or settings is None:
        return list(found.values())
    terms: set[str] = set()
    accepted = [_accepts(method, settings, case, terms, tell) for case in CASES]
    if not any(accepted) and not found:
        tell("it refuses every pair of networks", "let `check` refuse only what it cannot work on")
    unknown = sorted(set(method.zero_when_equal) - terms)
    if unknown and terms and config is None:
        tell(f"zero_when_equal names {', '.join(unknown)}: no such term", f"its terms: {', '.join(sorted(terms))}")
    return list(found.values())


def _registered(method: type[AnyDistiller]) -> tuple[str, str | None]:
    """Return the name a class is registered under and its distribution; its own name where it is not registered."""
    value = f"{getattr(method, '__module__', '')}:{getattr(method, '__qualname__', '')}"
    for point in entry_points(METHODS):
        if point.value == value:
            return point.name, None if point.dist is None else f"{point.dist.name} {point.dist.version}"
    return str(getattr(method, "name", None)), None


def _settings(method: type[AnyDistiller], tell: Tell) -> Any:
    """Make the default settings; None, and a fault, where there are none."""
    config: Any = getattr(method, "Config", None)
    if not is_dataclass(config):
        return None
    made: Any = config
    bare = [item.name for item in fields(made) if item.default is MISSING and item.default_factory is MISSING]
    if bare:
        tell(f"its settings {', '.join(bare)} have no default", "give every field of Config one")
        return None
    try:
        return made()
    except Exception as cause:  # noqa: BLE001  # a stranger's code may raise anything
        tell(f"its default settings are refused: {in_words(cause)}", "choose defaults that __post_init__ allows")
        return None


def _accepts(method: type[AnyDistiller], config: Any, case: Case, terms: set[str], tell: Tell) -> bool:
    """Look at one made-up pair, and add the names of its terms; whether the method takes it at all."""

    def tell_here(message: str, fix: str) -> None:
        tell(message, f"{fix} (seen with {case.label})")

    with suppress(Broken):  # what broke it has been told
        needs = needs_of(method, config, tell_here)
        with guarded("check", tell_here):
            try:
                method.check(config, case.pair(needs))
            except UnsupportedPair:
                return False
        _look(Subject(method, config, case, needs, tell_here), terms)
    return True


def needs_of(method: type[AnyDistiller], config: Any, tell: Tell) -> Needs:
    """Return what a method needs with these settings.

    Raises:
        Broken: it does not say.
    """
    with guarded("needs_for", tell):
        needs = method.needs_for(config)
    if not isinstance(needs, Needs):
        tell("needs_for does not return a Needs", "return Needs(...)")
        raise Broken
    return needs


def _look(subject: Subject, terms: set[str]) -> None:
    phases = checked_phases(subject, subject.build())
    for phase in phases:
        laws.look_at_phase(subject, phase)
    for phase in phases:
        laws.look_at_precision(subject, phase)
        terms |= laws.look_at_equals(subject, phase)
        products.look_at_state(subject, phase)
        laws.look_at_order(subject, phase)
    laws.look_at_micro_batches(subject, phases[-1])
    products.look_at_memory(subject)
    products.look_at_plan(subject)
    products.look_at_views(subject, subject.needs.views)
    products.look_at_export(subject)
