from __future__ import annotations

import io
import logging
import time
from collections import namedtuple
from urllib.parse import quote

import pytest

from embedsweep.secrets import RedactingFilter, is_secret_key, redact, redact_tree

SECRET = "Tr0ub4dor"

LEAKS = [
    (f"postgresql://me:{SECRET}@host:5432/db", "postgresql://me:***@host:5432/db"),
    (f"postgresql+psycopg://me:{SECRET}@h1:5432,h2:5432/db", "postgresql+psycopg://me:***@h1:5432,h2:5432/db"),
    (f"redis://:{SECRET}@host/0", "redis://:***@host/0"),
    (f"postgresql://me:p%40{SECRET}%2F@host/db", "postgresql://me:***@host/db"),
    (f"postgresql://me:p@{SECRET}@host/db", "postgresql://me:***@host/db"),
    (f"postgresql://me:p/{SECRET}@host/db", "postgresql://me:***@host/db"),
    (f"a://u:{SECRET}@h/x and b://u:{SECRET}@h/y", "a://u:***@h/x and b://u:***@h/y"),
    (f"postgresql://h/db?user=me&password={SECRET}&x=1", "postgresql://h/db?user=me&password=***&x=1"),
    (f"https://h/a?access_token={SECRET}#top", "https://h/a?access_token=***#top"),
    (f"https://h/a?x=1&token={SECRET}", "https://h/a?x=1&token=***"),
    (f"password={SECRET}", "password=***"),
    (f"tracking.password={SECRET} loss=mnrl", "tracking.password=*** loss=mnrl"),
    (f"connect(host=h, password={SECRET}, port=1)", "connect(host=h, password=***, port=1)"),
    (f"connect(password={SECRET})", "connect(password=***)"),
    (f"host=h password='{SECRET} it is' port=1", "host=h password='***' port=1"),
    (f"{{'password': '{SECRET}', 'user': 'me'}}", "{'password': '***', 'user': 'me'}"),
    (f'{{"api_key": "{SECRET}\\"x", "n": 1}}', '{"api_key": "***", "n": 1}'),
    (f'"{{\\"password\\": \\"{SECRET}\\"}}"', '"{\\"password\\": \\"***\\"}"'),
    (f"  password: correct horse {SECRET}\n  user: me", "  password: ***\n  user: me"),
    (f"HF_TOKEN={SECRET}", "HF_TOKEN=***"),
    (f"--hf-token={SECRET}", "--hf-token=***"),
    (f"apikey: {SECRET}", "apikey: ***"),
    (f"X-Api-Key: {SECRET}", "X-Api-Key: ***"),
    (f"clientSecret = {SECRET}", "clientSecret = ***"),
    (f"aws_secret_access_key={SECRET}", "aws_secret_access_key=***"),
    (f"db_passwd={SECRET}", "db_passwd=***"),
    (f"password_prod={SECRET}", "password_prod=***"),
    (f"credentials={SECRET}", "credentials=***"),
    (f"failed: storage=x error: password={SECRET}", "failed: storage=x error: password=***"),
    (f"Authorization: Bearer {SECRET}", "Authorization: ***"),
    (f"sent with bearer {SECRET}.", "sent with bearer ***"),
    ("login with hf_abcdefghijKLMNOPQRST done", "login with *** done"),
    ("key AKIAIOSFODNN7EXAMPLE.", "key ***."),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nrest", "***\nrest"),
]

INNOCENT = [
    "tokenizer=bert max_tokens=48 num_tokens: 12",
    "token: 12",
    "token: 12 of 30",
    "'pad_token': '[PAD]', 'cls_token': '[CLS]', 'token_type_ids': [0]",
    "pooling_mode_cls_token: true",
    "password: null",
    "token=None",
    "TOKENIZERS_PARALLELISM=false",
    "HF_TOKEN_PATH=/root/.cache/huggingface/token",
    "http://localhost:5000/#/experiments/1",
    "https://registry:8080/@scope/package",
    "ssh://git@github.com/a/b",
    "postgresql://me@host/db",
    "hf_hub_download and hf_transfer",
    "the bearer of bad news",
    "loss=mnrl,cosent optimizer.lr=3e-05",
    "",
]


@pytest.mark.parametrize(("text", "expected"), LEAKS, ids=[leak[:40] for leak, _ in LEAKS])
def test_a_secret_is_masked_and_the_rest_stays(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert SECRET not in expected
    assert redact(expected) == expected


@pytest.mark.parametrize("text", INNOCENT)
def test_harmless_text_is_unchanged(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("token", True),
        ("HF_TOKEN", True),
        ("accessToken", True),
        ("tracking.password", True),
        ("PGPASSWORD", True),
        ("OPENAI_API_KEY", True),
        ("tokenizer", False),
        ("max_tokens", False),
        ("eos_token", False),
        ("PGPASSFILE", False),
        ("PWD", False),
        ("key", False),
        ("secrets.path", False),
    ],
)
def test_secret_keys_are_recognised(key: str, secret: bool) -> None:
    assert is_secret_key(key) is secret


def test_values_of_secret_environment_variables_are_masked_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    value = "s3cr&t/pa ss"
    monkeypatch.setenv("MY_DB_PASSWORD", value)
    assert redact(f"it said {value}!") == "it said ***!"
    assert redact(f"it said {quote(value, safe='')}!") == "it said ***!"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("MY_TOKEN", "short", "a short way"),
        ("MAX_TOKENS", "100000", "100000 steps"),
        ("DB_PASSWORD", "postgres", "postgresql is a database"),
        ("HF_TOKEN_PATH", "/home/me/token", "read /home/me/token"),
    ],
)
def test_values_of_other_environment_variables_are_unchanged(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(name, value)
    assert redact(text) == text


def test_a_tree_keeps_its_shape() -> None:
    point = namedtuple("point", "url n")
    tree = {
        "storage": f"postgresql://me:{SECRET}@h/d",
        "password": {"nested": SECRET},
        "token": 12,
        "hf_token": None,
        "use_auth_token": True,
        "list": [f"token={SECRET}", ("a", 1.5)],
        "point": point(f"a://u:{SECRET}@h", 3),
        f"b://u:{SECRET}@h": 1,
        5: None,
    }
    assert redact_tree(tree) == {
        "storage": "postgresql://me:***@h/d",
        "password": "***",
        "token": 12,
        "hf_token": None,
        "use_auth_token": True,
        "list": ["token=***", ("a", 1.5)],
        "point": point("a://u:***@h", 3),
        "b://u:***@h": 1,
        5: None,
    }
    assert SECRET in str(tree), "the original is not touched"


def logged(*args: object, error: Exception | None = None) -> str:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(RedactingFilter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    logger.error(*args, exc_info=error)
    return stream.getvalue()


def test_a_record_is_redacted_if_message_and_arguments_hold_key_and_value() -> None:
    assert logged("cannot open %s with password=%s", f"a://u:{SECRET}@h", SECRET) == (
        "cannot open a://u:***@h with password=***\n"
    )


def test_an_exception_is_redacted_with_its_cause() -> None:
    try:
        try:
            raise ValueError(f"password={SECRET}")
        except ValueError as cause:
            raise RuntimeError("cannot connect") from cause
    except RuntimeError as error:
        text = logged("failed", error=error)
    assert "ValueError: password=***" in text
    assert "RuntimeError: cannot connect" in text
    assert SECRET not in text.replace("{SECRET}", "")


def test_a_harmless_record_keeps_its_arguments_and_exception() -> None:
    error = ValueError("harmless")
    record = logging.LogRecord("n", logging.INFO, "f", 1, "%d steps", (3,), (ValueError, error, None))
    assert RedactingFilter().filter(record)
    assert (record.msg, record.args) == ("%d steps", (3,))
    assert record.exc_info == (ValueError, error, None)


def test_a_record_with_wrong_arguments_is_redacted_too() -> None:
    record = logging.LogRecord("n", logging.INFO, "f", 1, f"token={SECRET} %d", ("x", f"token={SECRET}"), None)
    assert RedactingFilter().filter(record)
    assert SECRET not in str(record.msg)
    assert SECRET not in str(record.args)


@pytest.mark.parametrize(
    "blob",
    [
        "a" * 200_000,
        "a=" * 50_000,
        "a:'" * 50_000,
        "token='" * 30_000,
        "token: 1 " * 30_000,
        "://" * 50_000,
        "x://y:" * 10_000,
    ],
)
def test_redaction_of_a_long_blob_is_not_quadratic(blob: str) -> None:
    started = time.perf_counter()
    redact(blob)
    assert time.perf_counter() - started < 3
