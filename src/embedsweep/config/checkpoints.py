"""Where a study keeps checkpoints, and what finished trials leave, for every machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

KEY = "study.checkpoints"

_URL = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])((?:/[\w.=+@~-]+)*)/?", re.ASCII)
"""A bucket, and a prefix of any depth or none."""


@dataclass(frozen=True)
class CheckpointPlace:
    """The place of a study's checkpoints in a bucket.

    Attributes:
        url: ``study.checkpoints``; None where the last command set none.
        own: tells them from those of another study with the same name, whose storage is another or is gone.
    """

    url: str | None
    own: str


def url_problem(url: str) -> str | None:
    """Return what is wrong with a place for checkpoints; None if it can be one."""
    found = _URL.fullmatch(url)
    if found is not None and (not found[2] or is_plain(found[2][1:])):
        return None
    place = "a bucket and, if you like, a prefix in it, as s3://bucket/prefix"
    return f"must name {place}, without parts that are '.', '..' or empty, but got {url}"


def is_plain(path: str) -> bool:
    """Return whether no part of a relative path is empty, ``.`` or ``..``, so that it stays in its folder."""
    return {"", ".", ".."}.isdisjoint(path.split("/"))


def split_url(url: str) -> tuple[str, str]:
    """Return the bucket and the prefix, without slashes at its ends, of a place that `url_problem` has accepted."""
    found = _URL.fullmatch(url)
    assert found is not None, "the configuration was checked"
    return found[1], found[2].strip("/")
