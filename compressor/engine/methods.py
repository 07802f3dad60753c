"""From a method's name and settings to its class, its checked settings, and the module built for a pair."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError

from compressor.config.settings import MethodConfig
from compressor.distiller import Distiller, Pair
from compressor.errors import UsageError, suggestion
from compressor.registry import load_method
from compressor.streams import derive

AnyDistiller = Distiller[Any]


def method_config(method: type[AnyDistiller], settings: Mapping[str, Any]) -> Any:
    """Make a method's settings, every key known and every value of its kind and in range.

    Raises:
        UsageError: naming the key, what was given and what is allowed.
    """
    known = [item.name for item in fields(method.Config)]
    for key in settings:
        if key not in known:
            raise UsageError(
                f"method {method.name!r} has no setting {key!r}",
                hint=suggestion(key, known) or f"its settings: {', '.join(known)}",
            )
    try:
        return TypeAdapter(method.Config).validate_python(dict(settings))
    except ValidationError as cause:
        first = cause.errors()[0]
        text = first["msg"].removeprefix("Value error, ")
        if first["type"] != "value_error":
            key = ".".join(str(part) for part in first["loc"])
            text = f"{method.name}.{key}: {text[0].lower()}{text[1:]}, given {first['input']!r}"
        raise UsageError(text) from cause


def known_settings(name: str) -> frozenset[str]:
    """Return the names of a method's settings."""
    return frozenset(item.name for item in fields(load_method(name).Config))


def prepared(config: MethodConfig) -> tuple[type[AnyDistiller], Any]:
    """Return a method's class and checked settings; errors as `load_method` and `method_config`."""
    method = load_method(config.name)
    return method, method_config(method, config.settings)


def build_distiller(method: type[AnyDistiller], config: Any, pair: Pair, seed: int) -> AnyDistiller:
    """Check the pair and build the method for it; its modules start from draws of the run's seed."""
    method.check(config, pair)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "method"))
        return method(config, pair)
