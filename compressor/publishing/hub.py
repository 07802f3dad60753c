"""One upload of a published folder to the Hugging Face hub."""

import os
from pathlib import Path

from compressor.errors import InputError, UsageError
from compressor.publishing.facts import check_hub_id
from compressor.publishing.files import CARD, CONFIG, LICENSES, ONNX, RECORD, WEIGHTS

_ALLOWED = (WEIGHTS, CONFIG, RECORD, CARD, LICENSES, ONNX)


def push(folder: str | Path, repo_id: str, *, private: bool = False) -> str:
    """Upload the files of a published folder as one commit and return the address of the repository.

    Args:
        folder: As `publish` wrote it; files that do not belong to it are not uploaded.
        repo_id: ``organisation/name``; made when missing.
        private: Only for a repository that is made now.

    Raises:
        InputError: Not a published folder, no network, no token, or no right to write there.
        UsageError: ``HF_HUB_OFFLINE`` is set.
    """
    folder = Path(folder)
    if missing := [name for name in _ALLOWED[:5] if not (folder / name).is_file()]:
        raise InputError(f"{folder} is not a published folder: {missing[0]} is missing", hint="compress publish RUN")
    check_push(repo_id)
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = huggingface_hub.HfApi()
    # The HTTP library behind it has changed from release to release; its base error is that of the hub's own error.
    unreachable: tuple[type[Exception], ...] = (
        OSError,
        *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)),
    )
    try:
        url = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=str(folder),
            allow_patterns=list(_ALLOWED),
            commit_message="Publish a distilled student",
        )
    except (LocalTokenNotFoundError, HfHubHTTPError) as cause:
        raise InputError(
            f"the hub refused to take {repo_id}: {_status(cause)}",
            hint="set HF_TOKEN to a token that may write there, or run `hf auth login`",
        ) from cause
    except unreachable as cause:
        raise InputError(
            f"the hub could not be reached: {type(cause).__name__}",
            hint="check the network and HF_ENDPOINT",
        ) from cause
    return str(url)


def check_push(repo_id: str) -> None:
    """Raise what `push` would raise for the name and the environment alone, before any work is done."""
    check_hub_id(repo_id, "the repository")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        raise UsageError("HF_HUB_OFFLINE is set, so nothing can be pushed", hint="unset HF_HUB_OFFLINE")


def _status(error: Exception) -> str:
    """Say why in a few words; the full text of the library may quote request headers."""
    response = getattr(error, "response", None)
    code = getattr(response, "status_code", None)
    return f"HTTP status {code}" if code is not None else "no token"
