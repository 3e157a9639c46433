"""The identity of a configuration: a hash of what decides a trial's result.

Owns when two configurations are equal. Knows nothing of how they came about.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from embedsweep.schema import TrialConfig, without_later_keys


def config_hash(config: TrialConfig) -> str:
    """The identity of a trial: 12 hexadecimal digits of a hash over all that decides its result."""
    return digest(without_later_keys(asdict(config)))


def digest(value: object) -> str:
    """12 hexadecimal digits of a hash over a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]


def canonical(value: object) -> str:
    """JSON with sorted keys: equal for equal configurations, whatever order they were written in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
