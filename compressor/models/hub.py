"""The Hugging Face hub as a place that may be out of reach: noticed in seconds, told with what would help."""

import os
from importlib import import_module
from typing import Any

_SECONDS = 5.0


def go_offline_if_unreachable() -> None:
    """Look for the hub once; where nobody answers, let this process be offline, so that only its cache is asked.

    The hub's own client tries each file five times, for half a minute each.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        utils: Any = import_module("huggingface_hub.utils")
        utils.get_session().head(constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # noqa: BLE001  # the HTTP library behind it changes with the release, and so do its errors
        constants.HF_HUB_OFFLINE = True


def how_to_reach_it() -> str:
    """Say what stands between this process and the hub, and the way around it."""
    file = "or give a file: --teacher-weights PATH"
    if os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"):
        return f"HF_HUB_OFFLINE is set, so only what HF_HOME holds is loaded: unset it, {file}"
    return f"without network only what HF_HOME holds is loaded: check HTTPS_PROXY and HF_ENDPOINT, {file}"
