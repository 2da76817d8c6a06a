"""What the chat's flags mean, and how sizes are written."""

import re
from pathlib import Path

import pytest

import app
from serving.errors import InvalidRequest
from serving.flags import access_from, check_address, client_limit, is_loopback, login_from, memory_from, size
from serving.http.access import Access


def access(*argv: str) -> Access:
    return access_from(app.parser().parse_args(argv))


def test_whoever_can_be_reached_asks_for_something() -> None:
    assert not access().credentials.asked
    for public in (["--share"], ["--host", "0.0.0.0"], ["--host", "192.168.1.7"]):
        login = access(*public).login
        assert login and len(login[1]) >= 12
        assert not access(*public, "--insecure").credentials.asked
        assert access(*public, "--api-key", "k").login is None and access(*public, "--api-key", "k").credentials.asked
        assert access(*public, "--auth", "u:p").login == ("u", "p")
        assert client_limit(app.parser().parse_args(public)) == 9
    assert client_limit(app.parser().parse_args([])) is None


def test_where_keys_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("c\n\nd\n")
    monkeypatch.setenv("OGA_CHAT_API_KEYS", "e f")
    assert access("--api-key", "a", "--api-key", "b", "--api-key-file", str(file)).keys == tuple("abefcd")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--api-key", ""], "--api-key"),
        (["--api-key-file", "no such file"], "no such file cannot be read"),
        (["--insecure", "--api-key", "k"], "--insecure"),
        (["--allow-origin", "chat.example"], "not 'chat.example'"),
        (["--allow-origin", "https://chat.example/"], "https://chat.example/"),
        (["--allow-origin", "*"], "'*'"),
        (["--allow-origin", "http://[::1"], "not 'http://[::1'"),
    ],
)
def test_mistakes_in_flags(argv: list[str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(said)):
        access(*argv)


def test_several_models_share_what_is_said_or_a_part_of_what_is_free() -> None:
    def memory(*argv: str) -> int | None:
        return memory_from(app.parser().parse_args(argv))

    assert memory() is None
    assert memory("--models", "all", "--memory", "3G") == 3 << 30
    assert 0 < (memory("--models", "a,b") or 0) < 1 << 60
    for argv, said in (
        (["--memory", "3G"], "--memory is for --models"),
        (["--models", "all", "--replicas", "2"], "--replicas are of one model"),
        (["--models", "all", "--memory", "0"], "--memory must be above 0"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            memory(*argv)


def test_sharing_without_a_login_makes_a_random_one() -> None:
    first, second = (login_from(None, public=True) for _ in range(2))
    assert first and second and first[1] != second[1] and len(first[1]) >= 12
    assert login_from(None, public=False) is None
    assert login_from("u:p:q", public=True) == ("u", "p:q")
    for wrong in ("", ":", "u:", ":p", "u"):
        with pytest.raises(InvalidRequest):
            login_from(wrong, public=False)


def test_other_machines_are_never_let_in_without_a_login() -> None:
    here = ("127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]")
    elsewhere = ("0.0.0.0", "192.168.1.7", "::", "", "127.example", "localhost.example")
    assert [host for host in (*here, *elsewhere) if is_loopback(host)] == list(here)


@pytest.mark.parametrize("host", ["host.invalid", "a" * 70, "a..b"])
def test_what_cannot_be_listened_on_is_an_error_of_one_sentence(host: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(f"cannot listen on {host}:0")):
        check_address(host, 0)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1), ("800", 800), ("0", 0), ("7B", 7),
        ("4K", 4 << 10), ("4KiB", 4 << 10), ("4Ki", 4 << 10), ("4KB", 4000),
        ("800M", 800 << 20), ("800mib", 800 << 20), ("800mb", 800_000_000),
        ("4G", 4 << 30), ("4g", 4 << 30), ("4GiB", 4 << 30), ("4GB", 4_000_000_000), ("4 GB", 4_000_000_000),
        ("1.5G", 3 << 29), ("0.5 kb", 500), ("2T", 2 << 40), ("2TB", 2_000_000_000_000),
    ],
)  # fmt: skip
def test_a_size_is_written_as_dd_has_it(text: str, count: int) -> None:
    assert app.parser().parse_args(["--kv-memory", text]).kv_memory == size(text) == count


@pytest.mark.parametrize(
    "text",
    ["", "G", "4X", "4GG", "4iB", "-4G", "-1", "+4G", "nan", "inf", "1e9", "0x10", "4,5G", "1..5G", ".5G", "٤G",
     "9" * 400, "2000000T"],
)  # fmt: skip
def test_what_is_no_size_is_said_to_be_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        app.parser().parse_args([f"--kv-memory={text}"])
    error = capsys.readouterr().err
    assert error.startswith("error: --kv-memory: must be a size like 800M") and error.count("\n") == 1
    assert repr(text) in error
