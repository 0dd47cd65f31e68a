"""What goes around the processes of a library, with real processes and real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

from attrib.sampling.child_processes import GRACE_SECONDS, MARK, ChildProcesses

Handler = Callable[[int, FrameType | None], object]

SLEEPER = [sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)"]

PARENT = f"""
import subprocess, sys, time
from attrib.sampling.child_processes import ChildProcesses

processes = ChildProcesses(is_quiet=False)
with processes.starting():
    marked = subprocess.Popen({SLEEPER!r}, stdout=subprocess.PIPE)
    marked.stdout.readline()
    print(marked.pid, flush=True)
    if sys.argv[1] == "starting":
        time.sleep(600)
other = subprocess.Popen({SLEEPER!r}, stdout=subprocess.PIPE)
other.stdout.readline()
print(other.pid, flush=True)
time.sleep(600)
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="needs /proc")


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for_end(process_id: int) -> bool:
    deadline = time.monotonic() + GRACE_SECONDS + 20.0
    while is_running(process_id) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(process_id)


@needs_proc
@pytest.mark.parametrize("phase", ["starting", "started"])
def test_a_killed_process_takes_its_children_along(phase: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, phase], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    marked = int(parent.stdout.readline())
    other = int(parent.stdout.readline()) if phase == "started" else None
    assert is_running(marked)
    try:
        parent.kill()
        parent.communicate()
        assert wait_for_end(marked)
        assert other is None or is_running(other)
    finally:
        for process_id in filter(None, (marked, other)):
            if is_running(process_id):
                os.kill(process_id, signal.SIGKILL)


@needs_proc
def test_what_is_forgotten_is_left_alone() -> None:
    processes = ChildProcesses(is_quiet=True)
    with processes.starting(), subprocess.Popen(SLEEPER) as sleeper:
        processes.forget()
        time.sleep(GRACE_SECONDS + 0.5)
        assert sleeper.poll() is None
        sleeper.kill()
    assert MARK not in os.environ


@needs_proc
def test_what_is_ended_is_gone_and_its_log_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("of an earlier run")
    processes = ChildProcesses(is_quiet=True, log=log)
    program = "import time; print('ValueError: no', flush=True); time.sleep(100)"
    with processes.starting():
        child = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    while processes.first_error() != "no":
        time.sleep(0.05)
    processes.end()
    assert child.wait(timeout=5) == -signal.SIGKILL
    assert log.read_text() == "ValueError: no\n"


@pytest.mark.parametrize("is_quiet", [True, False])
def test_only_the_first_error_is_kept(is_quiet: bool, capfd: pytest.CaptureFixture[str]) -> None:
    processes = ChildProcesses(is_quiet=is_quiet)
    program = (
        "import sys, time; print('out'); print('err', file=sys.stderr, flush=True)\n"
        "sys.stdin.readline()\n"
        "try: open('/no/such/folder/at/all')\n"
        "except OSError as error: raise RuntimeError('a consequence') from error"
    )
    with processes.starting():
        child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True)
    os.write(2, b"ours\n")
    assert processes.first_error() is None
    child.communicate("go on\n")
    captured = capfd.readouterr()
    if is_quiet:
        assert captured == ("", "ours\n")
        assert "'/no/such/folder/at/all'" in (processes.first_error() or "")
    else:
        assert captured.out == "out\n"
        assert "a consequence" in captured.err
        assert processes.first_error() is None
    processes.forget()


@pytest.fixture
def handle_interruptions() -> Iterator[Callable[[Handler], None]]:
    """Return `handle(handler)`, which says what Ctrl-C does until the end of the test."""
    previous = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, previous)


def interrupt_and_swallow() -> None:
    """Do as vLLM does, which takes Ctrl-C for the end of its start."""
    with suppress(Exception, KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


def test_an_interruption_is_not_swallowed(
    handle_interruptions: Callable[[Handler], None],
) -> None:
    handle_interruptions(signal.default_int_handler)
    processes = ChildProcesses(is_quiet=False)
    with pytest.raises(KeyboardInterrupt), processes.starting():
        interrupt_and_swallow()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    processes.forget()


def test_a_handler_of_the_user_stays(handle_interruptions: Callable[[Handler], None]) -> None:
    called = []
    handle_interruptions(lambda *_: called.append(True))
    processes = ChildProcesses(is_quiet=False)
    with processes.starting():
        os.kill(os.getpid(), signal.SIGINT)
    assert called == [True]
    processes.forget()
