"""Text processes that misbehave, and those who wait for them."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serving.errors import Busy, EngineStopped, InvalidRequest, ModelFolderError
from serving.text.lane import Limits
from serving.text.process import TextProcess
from tests.text.test_process import LED, MIB, SOON, WINDOW, folder_with, user

ROOT = Path(__file__).parent.parent.parent
BEGUN = """
import json, os, sys, time
lines = iter(sys.stdin.buffer.readline, b"")
def say(line): os.write(1, (line if isinstance(line, str) else json.dumps(line)).encode() + b"\\n")
next(lines)
"""
HELLO = BEGUN + "say({'loaded': True}); say({'end_ids': [1], 'vocabulary': 2, 'calls': None})\n"
SLEEP = "time.sleep(600)"
MISBEHAVING = {
    "says nothing": f"next(lines); {SLEEP}",
    "ends": "next(lines)",
    "breaks off": "next(lines); os.write(1, b'{'); os._exit(1)",
    "is no JSON": f"next(lines); say('no'); {SLEEP}",
    "is a list": f"next(lines); say([1]); {SLEEP}",
    "is something else": f"next(lines); say({{'texts': [1]}}); {SLEEP}",
    "is deep": f"next(lines); say('[' * 10**6); {SLEEP}",
    "does not read": SLEEP,
    "is killed": "next(lines); os.kill(os.getpid(), 9)",
    "never stops": "next(lines)\nwhile True: os.write(1, b'x' * 10**6)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_with(LED, tmp_path_factory.mktemp("led"))


@pytest.mark.parametrize("name", MISBEHAVING)
def test_a_process_that_replies_with_nonsense_is_ended(name: str, folder: Path) -> None:
    command = (sys.executable, "-c", HELLO + MISBEHAVING[name])
    with TextProcess(folder, Limits(long=1.0, start=60.0), command) as texts:
        for _ in range(2):
            before = texts._long.pid
            with pytest.raises(InvalidRequest, match=r"takes (longer than 1 s|more memory than .*): shorten"):
                texts.tokens(user("x" * MIB), WINDOW)
            assert texts._long.pid != before


def test_a_process_that_was_killed_is_started_again(folder: Path) -> None:
    with TextProcess(folder, SOON) as texts:
        texts.wait()
        for pid in texts.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert texts.tokens(user("hi"), WINDOW)[0].size


@pytest.mark.parametrize("end", [SLEEP, "pass"])
def test_a_process_that_does_not_load_is_a_model_that_cannot_be_served(end: str, folder: Path) -> None:
    with (
        TextProcess(folder, Limits(load=1.0), (sys.executable, "-c", BEGUN + end)) as texts,
        pytest.raises(ModelFolderError, match=r"reading its tokenizer (takes longer than 1 s|ends its process)"),
    ):
        texts.wait()


SILENT = (sys.executable, "-c", HELLO + MISBEHAVING["says nothing"])


def test_too_many_that_wait_are_told_so_and_all_are_told_of_the_end(folder: Path) -> None:
    with TextProcess(folder, Limits(short=600.0, patience=600.0, waiting=2), SILENT) as texts:
        texts.wait()
        with ThreadPoolExecutor(2) as pool:
            waiting = [pool.submit(texts.tokens, user("hi"), WINDOW) for _ in range(2)]
            while texts._short._turns.taken < 2:
                time.sleep(0.01)
            with pytest.raises(Busy):
                texts.tokens(user("hi"), WINDOW)
            texts.close()
            assert all(isinstance(one.exception(), EngineStopped) for one in waiting)
        with pytest.raises(EngineStopped):
            texts.tokens(user("hi"), WINDOW)


def test_nobody_waits_for_a_turn_for_ever(folder: Path) -> None:
    with TextProcess(folder, Limits(short=600.0, patience=0.1), SILENT) as texts, ThreadPoolExecutor(1) as pool:
        texts.wait()
        pool.submit(texts.tokens, user("hi"), WINDOW)
        while not texts._short._turns.taken:
            time.sleep(0.01)
        with pytest.raises(Busy):
            texts.tokens(user("hi"), WINDOW)
        texts.close()


@pytest.mark.parametrize("wish", ["loops", "one call"])
def test_a_process_does_not_outlive_its_parent(folder: Path, wish: str) -> None:
    code = """
import sys, threading, time
from pathlib import Path
from serving.text.lane import Limits
from serving.text.process import TextProcess
from serving.types import Message
texts = TextProcess(Path(sys.argv[1]), Limits(short=1.0))
texts.wait()
threading.Thread(target=texts.tokens, args=([Message("user", sys.argv[2])], 4096), daemon=True).start()
time.sleep(0.5)
print(*texts.pids, flush=True)
sys.stdin.read()"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(folder), wish],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < deadline, "a text process outlived its parent"
        time.sleep(0.02)
