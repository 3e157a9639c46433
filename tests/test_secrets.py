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
    (f"postgresql://me:p/a@{SECRET}@host/db", "postgresql://me:***@host/db"),
    (f"postgresql://me:12/{SECRET}@host/db", "postgresql://me:***@host/db"),
    (f"mysql://me:{SECRET}/@x@host,a://b:{SECRET}@h", "mysql://me:***@host,a://b:***@h"),
    (f"http://me:p/{SECRET}@host/a", "http://me:***@host/a"),
    (f"https://{SECRET}@host/a.git", "https://***@host/a.git"),
    (f"git+https://{SECRET}:@host/a.git", "git+https://***:@host/a.git"),
    (f"https://{SECRET}:x-oauth-basic@host/a", "https://***:***@host/a"),
    (f"https://h/a?sv=1&sig={SECRET}&se=2", "https://h/a?sv=1&sig=***&se=2"),
    (f"https://h/a?X-Amz-Signature={SECRET}", "https://h/a?X-Amz-Signature=***"),
    (f"DB_PASS={SECRET} PGPASS={SECRET}", "DB_PASS=*** PGPASS=***"),
    (f"GITHUB_PAT={SECRET}", "GITHUB_PAT=***"),
    (f"export OPENAI_KEY='{SECRET}'", "export OPENAI_KEY='***'"),
    (f"SENTRY_DSN={SECRET}", "SENTRY_DSN=***"),
    (f"AZURE_STORAGE_CONNECTION_STRING={SECRET}", "AZURE_STORAGE_CONNECTION_STRING=***"),
    (f"JWT: {SECRET}", "JWT: ***"),
    (f"npm_config__auth={SECRET}", "npm_config__auth=***"),
    (f"DefaultEndpoints;AccountKey={SECRET};x=1", "DefaultEndpoints;AccountKey=***"),
    ("with glpat-abcDEF123456_7890-xy done", "with *** done"),
    ("with npm_" + 36 * "a" + " done", "with *** done"),
    ("with AIza" + 35 * "b" + " done", "with *** done"),
    ("with ya29." + 40 * "c" + " done", "with *** done"),
    ("with dapi" + 32 * "0" + " done", "with *** done"),
    ("with github_pat_" + 30 * "d" + " done", "with *** done"),
    ("with xoxb-1234567890-abc done", "with *** done"),
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
    "config_hash=12fca524 run_id=4f1c2a9b7d8e4c0b9a6f5e4d3c2b1a09 digest: 9f86d081884c7d659a2feaa0c55ad015",
    "model.revision=e8f8c211226b894fcb81acc59f3b34ba3efd5f42",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "sweeps/loss-ad07fc5f/trials/0001/model and /data/keys/pass/auth.csv",
    "mlflow-artifacts:/1/4f1c2a9b7d8e4c0b9a6f5e4d3c2b1a09/artifacts/model",
    "sort_key=loss primary_key=3 cache_key: ab12 key=dev/spearman_cosine",
    "Both texts of a pair in one forward pass: faster where lengths are similar",
    "forward_pass: 3 ms, bypass=true, compass=north, signature: tensor, path=a",
    "http://127.0.0.1:5000/@scope/a and http://localhost:5000/#/runs?key=a@b.c",
    "s3://bucket:1/a and hf://datasets/org/name@main/x",
    "SSH_AUTH_SOCK=/tmp/ssh-x/agent.1 GIT_ASKPASS=/usr/bin/ask",
    "postgresql://host:5432/db?application_name=me@here",
]


@pytest.fixture(autouse=True)
def without_the_name_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove pytest's variable, which holds the secrets in a case's name."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")


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
        ("DB_PASS", True),
        ("PGPASS", True),
        ("GITHUB_PAT", True),
        ("OPENAI_KEY", True),
        ("SSH_KEY_2", True),
        ("SENTRY_DSN", True),
        ("EVENTHUB_CONNECTION_STRING", True),
        ("AUTH_JWT", True),
        ("SIG", True),
        ("api_keys", True),
        ("sort_key", False),
        ("AWS_ACCESS_KEY_ID", False),
        ("SSH_AUTH_SOCK", False),
        ("GIT_ASKPASS", False),
        ("author", False),
        ("pattern", False),
        ("design", False),
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
    "name", ["DB_PASS", "PGPASS", "GITHUB_PAT", "OPENAI_KEY", "SENTRY_DSN", "X_CONNECTION_STRING", "JWT", "MY_AUTH"]
)
def test_values_of_unknown_form_are_masked_by_the_name_of_their_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "kanarienvogel")
    assert redact("it said kanarienvogel, (kanarienvogel)") == "it said ***, (***)"


def test_the_password_of_a_url_in_any_variable_is_masked_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:kanarien%2Fvogel@host/db")
    assert redact('password "kanarien/vogel" is wrong') == 'password "***" is wrong'


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
