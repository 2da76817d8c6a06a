"""How fast keys and passwords may be guessed, and that this is nobody else's trouble."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlencode

import pytest
from starlette.datastructures import Headers

from serving.errors import InvalidRequest
from serving.http.access import COOKIE, Access
from serving.http.addresses import networks_in, sender
from serving.http.answers import AnswerEngine
from serving.http.guessing import Buckets, Guesses
from tests.http.test_stream import Puppet
from tests.servers import api_served, asked

LONG = "a-long-key-of-the-owner"
NEVER = 1e9  # seconds until a guess more is looked at


def few() -> Guesses:
    return Guesses(Buckets(3, NEVER), Buckets(100, NEVER))


@contextmanager
def serving(access: Access) -> Iterator[str]:
    with api_served(cast(AnswerEngine, Puppet()), access=access) as url:
        yield url


def key(value: str, address: str = "") -> dict[str, str]:
    return {"authorization": f"Bearer {value}", **({"x-forwarded-for": address} if address else {})}


def status(url: str, headers: dict[str, str]) -> int:
    return asked(url, "/v1/models", headers=headers)[0]


def login(url: str, password: str) -> tuple[int, dict[str, str], bytes]:
    return asked(url, "/login", urlencode({"user": "anna", "password": password}).encode())


PROXIED = networks_in(["127.0.0.1"], "-")


def test_after_a_few_wrong_keys_no_more_are_looked_at_from_there() -> None:
    with serving(Access(("anna", "s3cret"), ("key-1",), proxies=PROXIED, guesses=few())) as url:
        assert [status(url, key(f"wrong-{n}", "10.0.0.1")) for n in range(6)] == [401] * 3 + [429] * 3
        code, headers, content = asked(url, "/v1/models", headers=key("key-1", "10.0.0.1"))  # it may be a guess
        assert code == 429 and int(headers["retry-after"]) > 0 and b"rate_limit_exceeded" in content
        assert status(url, {"x-forwarded-for": "10.0.0.1"}) == 401  # who guesses nothing is told so
        assert status(url, key("key-1", "10.0.0.2")) == status(url, key("s3cret", "10.0.0.2")) == 200
        assert [status(url, key(f"wrong-{n}", "10.0.0.2")) for n in range(4)] == [401] * 3 + [429]


def test_a_right_key_or_cookie_is_heard_whatever_comes_from_its_address() -> None:
    access = Access(("anna", "s3cret"), ("key-1", LONG), guesses=few())
    with serving(access) as url:
        assert status(url, key("key-1")) == 200
        cookie = {"cookie": f"{COOKIE}={access.credentials.cookie()}"}
        for n in range(30):
            assert status(url, key(f"wrong-{n}")) == (401 if n < 3 else 429)
            for right in (key("key-1"), key(LONG), cookie):
                assert status(url, right) == 200
        assert status(url, key("s3cret")) == 429  # short, and never right from here
        assert login(url, LONG)[0] == 303
        code, _, content = login(url, "s3cret")
        assert code == 429 and b"<form" in content and b"too many wrong" in content


def test_passwords_and_keys_are_guessed_from_one_supply() -> None:
    with serving(Access(("anna", "s3cret"), guesses=few())) as url:
        assert [login(url, "wrong")[0], status(url, key("wrong")), login(url, "wrong")[0]] == [401] * 3
        assert login(url, "wrong")[0] == status(url, key("wrong")) == status(url, {"x-api-key": "wrong"}) == 429
        assert status(url, {"authorization": "Basic YTpi"}) == 401


def test_a_key_in_its_own_header_is_guessed_as_slowly() -> None:
    with serving(Access(keys=("key-1",), guesses=few())) as url:
        assert [status(url, {"x-api-key": "wrong"}) for _ in range(5)] == [401] * 3 + [429] * 2


def test_the_forwarded_address_is_believed_of_a_named_proxy_only() -> None:
    with serving(Access(keys=("key-1",), guesses=few())) as url:
        answers = [status(url, key("wrong", f"10.0.0.{n}")) for n in range(5)]
        assert answers == [401] * 3 + [429] * 2


@pytest.mark.parametrize(
    ("peer", "forwarded", "found"),
    [
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.7"], "203.0.113.7"),  # what a client wrote stands before what a proxy did
        ("10.0.0.1", ["1.1.1.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, x"], "10.0.0.1"),
        ("10.0.0.1", ["x, 10.0.0.3"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),
        ("::ffff:10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2::9"], "2001:db8:1:2::/64"),
        ("", [], ""),
    ],
)
def test_who_asks(peer: str, forwarded: list[str], found: str) -> None:
    headers = Headers(raw=[(b"x-forwarded-for", line.encode()) for line in forwarded])
    assert sender(peer, headers, networks_in(["10.0.0.0/8"], "-")) == found


def test_an_endless_forwarded_header_is_looked_at_from_its_end() -> None:
    headers = Headers({"x-forwarded-for": ", ".join(["10.0.0.1"] * 100_000)})
    assert sender("10.0.0.1", headers, networks_in(["10.0.0.0/8"], "-")) == "10.0.0.1"


def test_a_proxy_that_is_no_address() -> None:
    with pytest.raises(InvalidRequest, match=r"--trusted-proxy must be an address.*proxy\.example"):
        networks_in(["proxy.example"], "--trusted-proxy")


def test_a_bucket_fills_again_with_time() -> None:
    bucket = Buckets(2, 4.0)
    bucket.take("a", 0.0)
    assert bucket.wait("a", 0.0) == 0
    bucket.take("a", 0.0)
    assert bucket.wait("a", 0.0) == 4.0 and bucket.wait("a", 3.0) == 1.0 and bucket.wait("a", 4.0) == 0
    assert bucket.wait("b", 0.0) == 0
    bucket.take("a", 1000.0)
    bucket.take("a", 1000.0)
    assert bucket.wait("a", 1000.0) > 0  # no more than two


def test_guesses_from_everywhere_together_are_slow_and_their_memory_is_bounded() -> None:
    guesses, looked = Guesses(), 0
    for n in range(20_000):
        now = n / 1000
        address = f"2001:db8:{n:x}::/64"
        if not guesses.wait(address, now):
            guesses.was_wrong(address, now)
            looked += 1
        guesses.was_right(address, "key")
    assert looked <= 100 + 2 * 20 + 1
    assert len(guesses._by_address) <= 4096 and len(guesses._right) <= 4096


def test_what_nobody_guesses() -> None:
    guesses = Guesses()
    assert guesses.is_no_guess("a", LONG) and guesses.is_no_guess("a", "sk-0123456789")
    for short in ("key-1", "", "aaaaaaaaaaaaaaaaaaaa", "abababababababababab"):
        assert not guesses.is_no_guess("a", short)
    guesses.was_right("a", "key-1")
    assert guesses.is_no_guess("a", "key-1") and not guesses.is_no_guess("b", "key-1")
    assert not guesses.is_no_guess("a", "key-2")
