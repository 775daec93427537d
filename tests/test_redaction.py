"""No secret in a text, and nothing but secrets taken out of it."""

import ast
import json
import os
import re
from urllib.parse import quote, quote_plus

import pytest

from forget.redaction import without_secrets

PASSWORDS = [
    "hunter22",
    "pa/ss",
    "p/a/s/s/",
    "pass@word",
    "pa@ss/wo:rd",
    "pa:ss",
    "pa%2Fss",
    "pa%ss",
    "pa'ss",
    'pa"ss"word',
    "pa#ss",
    "pa?ss=x&y",
    "<pass>",
    "1234",
    "pa\\ss",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
]


@pytest.fixture(autouse=True)
def _no_secrets_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name not in ("PATH", "HOME"):
            monkeypatch.delenv(name)


def unnamed(value: object) -> str:
    """Return an id without the value: pytest keeps a test's id in the environment."""
    return "case"


@pytest.mark.parametrize("password", PASSWORDS, ids=unnamed)
@pytest.mark.parametrize("user", ["me", "", "me%40corp"], ids=unnamed)
def test_a_password_in_a_url_is_hidden(password: str, user: str) -> None:
    url = f"postgresql://{user}:{password}@host:5432/db"
    shown = "postgresql://***@host:5432/db"
    assert without_secrets(url) == shown
    assert without_secrets(f"no answer from {url}, tried 3 times") == (
        f"no answer from {shown}, tried 3 times"
    )
    assert without_secrets(f"no answer from <{url}>: me@example.org is told") == (
        f"no answer from <{shown}>: me@example.org is told"
    )
    whole = {"uri": url, "n": 1}
    assert json.loads(without_secrets(json.dumps(whole))) == {"uri": shown, "n": 1}
    assert ast.literal_eval(without_secrets(repr(whole))) == {"uri": shown, "n": 1}
    assert without_secrets(shown) == shown


@pytest.mark.parametrize("password", [*PASSWORDS, "12/34", "pa ss", "pa\nss", "pässe"], ids=unnamed)
def test_a_password_of_the_environment_is_hidden_in_every_spelling(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden() -> None:
        for spelling in (
            password,
            quote(password),
            quote(password, safe=""),
            re.sub("%..", lambda code: code[0].lower(), quote(password, safe="")),
            quote_plus(password),
            json.dumps(password),
            repr(password),
        ):
            assert password not in without_secrets(f"it said {spelling}, twice")
            assert spelling.strip("'\"") not in without_secrets(f"it said {spelling}, twice")

    for name in ("MLFLOW_TRACKING_PASSWORD", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, password)
        hidden()
        monkeypatch.delenv(name)
    if not any(letter.isspace() for letter in password):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://me:{password}@host/db")
        hidden()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://x:y@h,http://me:{password}@host/db")
        hidden()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://me:{quote(password, safe='')}@host/db")
    hidden()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # A URL's user without a password may be a token.
        ("https://ghp_abc123@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("redis://:secret@host/0", "redis://***@host/0"),
        (r"http:\/\/me:pw@host\/x", r"http:\/\/***@host\/x"),
        ("s3://AKIAEXAMPLE:wJal/K7+x=@bucket/key", "s3://***@bucket/key"),
        ("?next=http%3A%2F%2Fme%3Apw%40host%2Fx&n=1", "?next=http%3A%2F%2F***%40host%2Fx&n=1"),
        ("http://a:b@h1 and http://c:d@h2", "http://***@h1 and http://***@h2"),
        # Parameters, settings, connection strings.
        ("https://h/x?token=abc&n=1", "https://h/x?token=***&n=1"),
        ("https://h/x?n=1&secret=abc#top", "https://h/x?n=1&secret=***"),
        ("https://h/x?access_key=abc&sig=a%2Fb%3D&n=1", "https://h/x?access_key=***&sig=***&n=1"),
        (
            "https://b.s3/k?X-Amz-Credential=A%2F1&X-Amz-Security-Token=b&X-Amz-Signature=c&n=1",
            "https://b.s3/k?X-Amz-Credential=***&X-Amz-Security-Token=***&X-Amz-Signature=***&n=1",
        ),
        ("host=h password=pa,ss dbname=d", "host=h password=*** dbname=d"),
        ("host=h password='pa ss' dbname=d", "host=h password='***' dbname=d"),
        ('password = "pa\'s s"\nn = 1', 'password = "***"\nn = 1'),
        ('passwd=pa"ss n=1', "passwd=*** n=1"),
        ("Pwd=abc;Server=h", "Pwd=***;Server=h"),
        ("AccountName=n;AccountKey=ab/c==;Suffix=s", "AccountName=n;AccountKey=***;Suffix=s"),
        ("env AWS_SECRET_ACCESS_KEY=ab/c+d run", "env AWS_SECRET_ACCESS_KEY=*** run"),
        ("env PGPASSWORD=abc HF_TOKEN=hf_x run", "env PGPASSWORD=*** HF_TOKEN=*** run"),
        # JSON, also within JSON, and dicts.
        ('{"password": "pa\'s s", "n": 1}', '{"password": "***", "n": 1}'),
        ("{'api_key': 'abc', 'n': 1}", "{'api_key': '***', 'n': 1}"),
        ('{"hf_token":"abc","n":1}', '{"hf_token":"***","n":1}'),
        (r'{"x": "{\"secret\": \"abc\", \"n\": 1}"}', r'{"x": "{\"secret\": \"***\", \"n\": 1}"}'),
        # Headers.
        ("Authorization: Bearer abc.def-1\nHost: h", "Authorization: Bearer ***\nHost: h"),
        ("Authorization: Basic bWU6cHc=", "Authorization: Basic ***"),
        ("{'Authorization': 'Basic bWU6cHc=', 'n': 1}", "{'Authorization': 'Basic ***', 'n': 1}"),
        ('{"authorization":"abc"}', '{"authorization":"***"}'),
        ("Proxy-Authorization: abc", "Proxy-Authorization: ***"),
        ("X-Api-Key: abc\nHost: h", "X-Api-Key: ***\nHost: h"),
        ("Cookie: session=abc; n=1", "Cookie: ***; n=1"),
        ("sent with Bearer eyJhbGciOi1", "sent with Bearer ***"),
    ],
    ids=unnamed,
)
def test_a_secret_is_known_by_its_place(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1",
        "http://host:5000/models/a@strongest",
        "http://host:5000 answers me@example.org",
        '{"uri":"http://host:5000","mail":"me@example.org"}',
        "http://[::1]:5000/a@b",
        "https://host/a@b?mail=me@example.org",
        "models:/forgotten-tiny-science@strongest",
        "s3://bucket/studies/a@1",
        "sqlite:////work/me/mlflow.db",
        "/data//me:x/a@b",
        "file:///home/me:x/a@b",
        "write to me@example.org, or to you@example.org",
        "wrong password: try again",
        "the password is missing; set MLFLOW_TRACKING_PASSWORD",
        "max_tokens=5 pad_token=<pad> eos_token_id=2 n_tokens=3",
        '{"eos_token": "<|endoftext|>", "tokens": 3}',
        "use_auth_token=False, token=None",
        "if password == other: pass",
        "key=value, sort keys=3, monkey=4",
        "sig=0.05, significance=0.01",
        "the bearer of this letter; Bearer bonds; Basic training",
        "authorization failed; the cookie is stale",
        "accuracy=0.5 [0.4, 0.6]; 12:30//13:00",
    ],
    ids=unnamed,
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def test_a_secret_of_three_letters_would_hide_ordinary_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "the")
    assert without_secrets("the trial") == "the trial"
