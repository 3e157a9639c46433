"""The Hugging Face hub as seen from here: is it there, and what of it is already on this disk.

Owns the one probe of the network and the look into the local cache. Downloads nothing and knows no library that does.
"""

from __future__ import annotations

import functools
import http.client
import ssl
import threading
import urllib.error
import urllib.request
from pathlib import Path


@functools.cache
def hub_reachable(timeout_s: float = 2.0) -> bool:
    """Whether the hub answers; asked at most once a process (``hub_reachable.cache_clear()`` forgets the answer).

    The libraries retry an unreachable hub for more than a minute, so it is asked before they are.

    Args:
        timeout_s: seconds after which no answer is a no.

    Returns:
        Whether ``HF_ENDPOINT`` (or huggingface.co) answered; False, unasked, under ``HF_HUB_OFFLINE=1``.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return False
    answers: list[bool] = []
    # A socket's time-out does not bound name resolution, which can hang for much longer; a thread left behind does.
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
        # Something answered; whose certificates are trusted is for the library that downloads to say.
        return isinstance(error.reason, ssl.SSLError)
    except (OSError, ValueError, http.client.HTTPException):
        return False


def why_unreachable() -> str:
    """What was tried when the hub could not be reached, in words."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set, so the hub was not asked"
    return f"{constants.ENDPOINT} does not answer"


def cached_model_path(repo_id: str, revision: str | None) -> Path | None:
    """The folder of a model in the local cache.

    Args:
        repo_id: the model's id on the hub.
        revision: a branch, tag or commit; None is ``main``.

    Returns:
        The snapshot's folder if it has a ``modules.json`` or a ``config.json``; else None.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in ("modules.json", "config.json"):
        try:
            found = try_to_load_from_cache(repo_id, name, revision=revision)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None
