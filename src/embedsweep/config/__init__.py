"""Parse and compose: the words of a command become configurations; a configuration becomes an identity.

Knows nothing of what the values mean: whether they are right is the gate's to say.
"""

from embedsweep.config.composer import PRIMARY, Composer, open_composer, shipped_conf, user_conf
from embedsweep.config.identity import canonical, config_hash, digest
from embedsweep.config.naming import nearest, nearest_key
from embedsweep.config.plain import has_key, leaf_keys, resolve, set_value, shown, value_at
from embedsweep.config.words import Word, parse_words, unquote

__all__ = [
    "PRIMARY",
    "Composer",
    "Word",
    "canonical",
    "config_hash",
    "digest",
    "has_key",
    "leaf_keys",
    "nearest",
    "nearest_key",
    "open_composer",
    "parse_words",
    "resolve",
    "set_value",
    "shipped_conf",
    "shown",
    "unquote",
    "user_conf",
    "value_at",
]
