"""Check whether the Hugging Face hub can be reached, and find models in its local cache."""

from __future__ import annotations

import functools
import http.client
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedsweep.files import access_problem, user_path


@functools.cache
def hub_reachable(timeout_s: float = 2.0) -> bool:
    """Return whether the hub answers; tried once per process (``hub_reachable.cache_clear()`` resets it).

    The libraries retry an unreachable hub for more than a minute, so check this before calling them.

    Args:
        timeout_s: seconds to wait for an answer.

    Returns:
        Whether ``HF_ENDPOINT`` (or huggingface.co) answered; False without a request if ``HF_HUB_OFFLINE=1``.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    answers: list[bool] = []
    # A socket's time-out does not limit name resolution, which can hang for much longer; so a thread is abandoned.
    probe = threading.Thread(target=lambda: answers.append(_answers(constants.ENDPOINT, timeout_s)), daemon=True)
    probe.start()
    probe.join(timeout_s)
    return answers == [True]


def _answers(url: str, timeout_s: float) -> bool:
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=timeout_s):
            return True
    except urllib.error.HTTPError as error:
        with error:
            return error.code < 500
    except urllib.error.URLError as error:
        # A server answered; which certificates are trusted is decided by the library that downloads.
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def why_unreachable() -> str:
    """Return the reason why the hub could not be reached, for messages."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set, so the hub was not contacted"
    return f"{constants.ENDPOINT} does not answer"


def local_model(path: str | None, revision: str | None) -> Path | None:
    """Return a model's folder on this disk: ``path`` itself, or that in the local cache; None if there is none.

    Args:
        path: a folder, or an id on the hub; None has no folder.
        revision: a branch, tag or commit on the hub; None is ``main``.
    """
    if path is None:
        return None
    folder = user_path(path)
    return folder if folder.is_dir() else cached_model_path(path, revision)


def cached_model_path(repo_id: str, revision: str | None) -> Path | None:
    """Return the folder of a model in the local cache, or None.

    Args:
        repo_id: the model's id on the hub.
        revision: a branch, tag or commit; None is ``main``.

    Returns:
        The snapshot's folder if it contains a ``modules.json`` or a ``config.json``; else None.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in ("modules.json", "config.json"):
        try:
            path = try_to_load_from_cache(repo_id, name, revision=revision)
        except HFValidationError:
            return None
        if isinstance(path, str):
            return Path(path).parent
    return None


def cache_problem() -> str | None:
    """Return why models cannot be downloaded into the local cache; None if they can."""
    from huggingface_hub import constants

    if (message := access_problem(Path(constants.HF_HUB_CACHE))) is None:
        return None
    return f"the cache {constants.HF_HUB_CACHE} {message}, by HF_HOME=FOLDER"


@dataclass(frozen=True)
class HubModel:
    """What the hub says about a model.

    Attributes:
        files: names of its files.
        config: the part of its ``config.json`` that the hub tells.
    """

    files: frozenset[str]
    config: Mapping[str, Any]


def hub_model(repo_id: str, revision: str | None, timeout_s: float = 2.0) -> HubModel | None:
    """Ask the hub about a model; return None if it does not answer in time.

    Args:
        repo_id: the model's id on the hub.
        revision: a branch, tag or commit; None is the default branch.
        timeout_s: seconds to wait.

    Raises:
        LookupError: the hub has no such model or revision, or does not show it to this user; the message says which.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    try:
        info = HfApi(endpoint=constants.ENDPOINT).model_info(repo_id, revision=revision, timeout=timeout_s)
    except RevisionNotFoundError as error:
        raise LookupError(f"the hub has no revision {revision} of {repo_id}") from error
    except GatedRepoError as error:
        raise LookupError(f"{repo_id} is gated: accept its conditions on the hub, and set HF_TOKEN") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise LookupError(f"the hub has no model {repo_id}, or it is private: then set HF_TOKEN") from error
    except Exception:  # a hub that fails here may still serve files: loading the model tells
        return None
    return HubModel(frozenset(file.rfilename for file in info.siblings or ()), info.config or {})
