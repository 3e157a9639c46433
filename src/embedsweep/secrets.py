"""Redact passwords and tokens in text, nested values and log records.

When in doubt, more is hidden than necessary: a log that lacks a harmless word is still useful.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

MASK = "***"

# Shorter values of secret variables are words and numbers that occur everywhere.
SHORTEST_ENVIRONMENT_SECRET = 6

_SECRET_WORD = re.compile(
    r"(secrets?|passwords?|passwd|passphrase|_pwd|api_?keys?|(access|private|encryption)_keys?|credentials?"
    r"|authorization|connection_?string|conn_?str|(access|amz|goog)_signature)(_|\d|$)"
    r"|(^|_)((pg|db|my|sql|user|root|smtp|mail|admin)?pass|pat|dsn|sig|jwt|auth)(_|\d|$)"
)

# What a model or a loop makes.
_COUNTED_PASS = re.compile(r"\b(?:forward|backward|single|one|first|second|third|last|each|every|per)[ _-]pass$")

# A "key" by itself is a name, and so are these.
_KEY_WORD = re.compile(r"([a-z]+)_key(_|\d|$)")
_HARMLESS_KEYS = frozenset(
    {"cache", "by", "column", "config", "dict", "foreign", "group", "index", "label", "lookup", "metric", "order"}
    | {"param", "partition", "primary", "public", "query", "row", "share", "sort", "state", "tag", "unique"}
)

# "token" is also what a tokenizer counts and pads with.
_TOKEN_WORD = re.compile(r"(^|_)[a-z]*token(_|\d|$)")
_TOKENIZER_WORDS = frozenset(
    {"additional", "bos", "class", "cls", "each", "embedding", "embeddings", "eos", "first", "image", "last", "level"}
    | {"mask", "max", "mean", "min", "next", "num", "pad", "per", "pooling", "sep", "special", "unk", "weights"}
)

_PATH_OR_COUNT = re.compile(r"_(path|file|dir|folder|sock|name|type|id|ids|count|length|limit|url|uri|env)$")

# Values that say whether there is a secret, or of which type, but not which.
_NO_SECRET = re.compile(r"(none|null|true|false|str|\*\*\*|)", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?\d{1,9}(\.\d*)?(?![^\s,;)\]}])")

_KNOWN_FORMS = tuple(
    re.compile(pattern)
    for pattern in (
        r"\b(?:hf|api_org)_[A-Za-z0-9]{10,}\b",  # Hugging Face
        r"\b(?:AKIA|ASIA)[0-9A-Z]{12,}\b",  # AWS access key ids
        r"\b(?:gh[pousr]|github_pat)_[A-Za-z0-9_]{20,}\b",  # GitHub
        r"\bgl[a-z]{2,5}-[\w-]{20,}",  # GitLab
        r"\b(?:npm|dckr_pat)_[A-Za-z0-9_-]{20,}",  # npm, Docker
        r"\b(?:AIza|ya29\.|GOCSPX-)[\w-]{20,}",  # Google
        r"\bdapi[0-9a-f]{32}\b",  # Databricks
        r"\bxox[a-z]-[A-Za-z0-9-]{10,}",  # Slack
        r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}\b",  # Stripe
        r"\bpypi-[\w-]{20,}",
        r"\bsk-[A-Za-z0-9_-]{20,}",  # OpenAI and others
        r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # JSON web tokens
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
        r"(?i:(?<=\bbearer )|(?<=\bbasic ))(?=\S*\d|\S{16})[\w.~+/=-]{6,}",  # HTTP authorization
    )
)

# These patterns neither start inside a word nor backtrack into one: a long blob must not take quadratic time.
_SCHEME = r"(?<![\w+.-])[\w+.-]++://"
_URL_USER = rf"({_SCHEME}[^\s/:@'\"]*+:)"
# A token as the user of a web address has no password, or one that says so; users of databases are names.
_URL_TOKEN = re.compile(r"((?<![\w+.-])(?:[\w.-]+\+)?https?://)[^\s/:@'\"]+(?=:?@|:x-oauth-basic@)")
# Up to the last @ of the URL of a database, because people forget to encode an @ or a slash; after a host and a port, a
# web address may have them, too.
_DATABASE_PASSWORD = re.compile(rf"(?!https?:){_URL_USER}(?:(?!://)[^\s?'\"]){{1,512}}@")
# Up to the last @ before a slash ...
_URL_PASSWORD = re.compile(_URL_USER + r"[^\s/'\"]+@")
# ... and up to the first @ after a slash, because SQLAlchemy accepts one in a password; but not after a port.
_URL_PASSWORD_WITH_SLASH = re.compile(_URL_USER + r"(?!\d{1,5}(?:/|$))[^\s@'\"]{1,512}+@")
_PASSWORD_IN_URL = re.compile(r"://[^\s/:@]*:(?!\d{1,5}(?:/|$)|x-oauth-basic@)([^\s@'\"]+)@")

# The key may be quoted, and the quotes may be escaped (JSON inside a string).
_KEY_AND_SIGN = re.compile(r"(?<![\w.-])(?P<key>[\w.-]++)(?:\\*['\"])?[ \t]*(?P<sign>[:=])[ \t]*(?:[bru](?=['\"]))?")
_QUOTED = re.compile(r"(?P<quote>\\*['\"])(?P<value>(?:(?!(?P=quote))(?:\\.|.))*)")
_IN_QUERY = re.compile(r"(?P<value>[^\s&#'\"]*)")
_REST_OF_LINE = re.compile(r"(?P<value>.*)")
_PLAIN = re.compile(r"(?P<value>(?:(?i:bearer|basic|token)[ \t]+)?[^\s'\"\\]*)")
_LINE_BEGINNING = re.compile(r"[ \t]*(?:- )?")


def redact(text: str) -> str:
    """Return the text with every secret replaced by ``***``.

    Secrets are: passwords in URLs, also in their queries, and tokens in place of a web address's user; the values of
    keys such as ``password``, ``hf_token``, ``api-key``, ``DB_PASS`` in ``key: value`` and ``key=value``; tokens of
    known form (Hugging Face, AWS, GitHub, GitLab, HTTP bearer, ...); and, if at least 6 characters long, the values of
    environment variables with such names and the passwords of URLs in any variable. Idempotent.
    """
    for value in _secrets_in(tuple(os.environ.items())):
        text = value.sub(MASK, text)
    text = _URL_TOKEN.sub(rf"\1{MASK}", text)
    text = _DATABASE_PASSWORD.sub(rf"\1{MASK}@", text)
    text = _URL_PASSWORD.sub(rf"\1{MASK}@", text)
    text = _URL_PASSWORD_WITH_SLASH.sub(rf"\1{MASK}@", text)
    text = _mask_pairs(text)
    for pattern in _KNOWN_FORMS:
        text = pattern.sub(MASK, text)
    return text


def redact_tree(value: object) -> object:
    """Return a copy of a nested value with every secret replaced, also in keys.

    Args:
        value: mappings, lists, tuples and sets are walked, strings are redacted, anything else is returned unchanged.

    Returns:
        The same structure. The value of a secret key is replaced by ``***``, except None, booleans and empty strings,
        which mean that there is no secret, and numbers under a ``token`` key.
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact_tree(key): _redact_item(key, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return type(value)._make(map(redact_tree, value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(map(redact_tree, value))
    return value


class RedactingFilter(logging.Filter):
    """Redact a record's message, arguments, exception and stack.

    Add it to handlers: a filter on a logger does not see what its child loggers log.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place; never drop it."""
        self._redact_message(record)
        if record.exc_info and not record.exc_text:
            trace = logging.Formatter().formatException(record.exc_info)
            if redact(trace) != trace:
                # A formatter prints exc_text if there is no exc_info, but would else format the exception again.
                record.exc_text, record.exc_info = redact(trace), None
        elif record.exc_text and redact(record.exc_text) != record.exc_text:
            record.exc_text, record.exc_info = redact(record.exc_text), None
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return True

    @staticmethod
    def _redact_message(record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError, KeyError):  # the arguments do not fit the message; logging will print both
            record.msg, args = redact(str(record.msg)), redact_tree(record.args)
            record.args = args if isinstance(args, (tuple, dict)) else ()
            return
        # Redact the formatted message, because the key may be in the message and its value in the arguments.
        redacted = redact(message)
        if redacted != message:
            record.msg, record.args = redacted, ()


def _redact_item(key: object, item: object) -> object:
    if not isinstance(key, str) or not is_secret_key(key):
        return redact_tree(item)
    if item is None or isinstance(item, bool) or item == "":
        return item
    if isinstance(item, (int, float)) and _is_token_key(key):
        return item
    return MASK


@lru_cache(maxsize=4096)
def is_secret_key(key: str) -> bool:
    """Return whether a key names a secret, as ``hf_token`` and ``db.password`` do, unlike ``max_tokens``."""
    name = _normalised(key)
    if _PATH_OR_COUNT.search(name):
        return False
    is_key = any(match[1] not in _HARMLESS_KEYS for match in _KEY_WORD.finditer(name))
    return is_key or bool(_SECRET_WORD.search(name)) or _is_token_key(name)


def _is_token_key(key: str) -> bool:
    name = _normalised(key)
    if not _TOKEN_WORD.search(name):
        return False
    return not _TOKENIZER_WORDS.intersection(name.split("_"))


def _normalised(key: str) -> str:
    """Return the last part of a dotted key in lower case, words joined by underscores: ``db.apiKey`` -> ``api_key``."""
    last = key.rpartition(".")[2]
    return re.sub(r"[\W_]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", last)).lower().strip("_")


def _mask_pairs(text: str) -> str:
    """Mask the values of secret keys. The value of another key may itself be a pair, so the search continues there."""
    done: list[str] = []
    position = 0
    while pair := _KEY_AND_SIGN.search(text, position):
        end = pair.end()
        if is_secret_key(pair["key"]) and not _COUNTED_PASS.search(text, max(0, pair.start() - 12), pair.end("key")):
            start, end = _value_of_pair(text, pair)
            value = text[start:end]
            if not _is_harmless(pair["key"], value):
                done += [text[position:start], MASK]
                position = end
                continue
            end = pair.end()
        done.append(text[position:end])
        position = end
    return "".join([*done, text[position:]])


def _value_of_pair(text: str, pair: re.Match[str]) -> tuple[int, int]:
    """Return the value's start and end: up to its quote, the next key of a query, the line's end (YAML) or a space."""
    begin = pair.end()
    if quoted := _QUOTED.match(text, begin):
        return quoted.span("value")
    line = text.rfind("\n", 0, pair.start()) + 1
    if pair["sign"] == ":" and text[begin - 1] in " \t" and _LINE_BEGINNING.fullmatch(text, line, pair.start()):
        pattern = _REST_OF_LINE
    elif pair["sign"] == "=" and text[max(0, pair.start() - 1) : pair.start()] in {"?", "&", ";"}:
        pattern = _IN_QUERY
    else:
        pattern = _PLAIN
    match = pattern.match(text, begin)
    value = match["value"] if match else ""
    return begin, begin + len(value.rstrip(",;)]} "))


def _is_harmless(key: str, value: str) -> bool:
    """Return whether a secret key's value is harmless: empty, a boolean, already masked, or a number of tokens."""
    if _NO_SECRET.fullmatch(value.strip()) or value.startswith(MASK):
        return True
    return _is_token_key(key) and _NUMBER.match(value) is not None


@lru_cache(maxsize=2)
def _secrets_in(environment: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], ...]:
    """Return patterns of the secrets in an environment; cached, because the environment hardly ever changes."""
    values = {value for name, value in environment if is_secret_key(name)}
    values |= {unquote(match[1]) for _, value in environment for match in _PASSWORD_IN_URL.finditer(value)}
    values = {value for value in values if len(value) >= SHORTEST_ENVIRONMENT_SECRET}
    # Plain and percent-encoded, longest first so that none hides part of another.
    forms = {form for value in values for form in (value, quote(value, safe=""), quote_plus(value), quote(value))}
    return tuple(_value_pattern(form) for form in sorted(forms, key=len, reverse=True))


def _value_pattern(value: str) -> re.Pattern[str]:
    # A password that is a word, such as "postgres", is not matched inside other words.
    edges = (r"(?<![A-Za-z])", r"(?![A-Za-z])") if value.isalpha() else ("", "")
    return re.compile(edges[0] + re.escape(value) + edges[1])
