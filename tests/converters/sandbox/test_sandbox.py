"""The child process: what comes back from it, and what it can neither do nor cause."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from backscan.converters.sandbox.errors import ResourceLimitError, SandboxDiedError, UnexpectedError
from backscan.converters.sandbox.limits import GIB, MIB, Limits, PhaseLimits
from backscan.converters.sandbox.sandbox import InProcess, Sandbox

SMALL = Limits(memory_bytes=400 * MIB, file_bytes=16 * MIB, open_files=256, message_bytes=64 * MIB)
QUICK = PhaseLimits("test", wall_seconds=20, cpu_seconds=10)
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux offers these protections")


def _frame(header: bytes, *, header_size: int | None = None) -> bytes:
    return struct.pack("<4sIQ", b"BSK1", header_size or len(header), 0) + header


@pytest.fixture(scope="module", autouse=True)
def _targets() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture
def honest() -> Iterator[Sandbox]:
    with closing(Sandbox("sandbox_targets:Honest", limits=SMALL)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def confined(_targets: None) -> Iterator[Sandbox]:
    with closing(Sandbox("sandbox_targets:Hostile", limits=SMALL)) as sandbox:
        yield sandbox


@pytest.fixture
def hostile() -> Iterator[Sandbox]:
    with closing(Sandbox("sandbox_targets:Hostile", limits=SMALL)) as sandbox:
        yield sandbox


def test_arrays_bytes_and_texts_come_back_as_they_went(honest: Sandbox) -> None:
    arrays = [np.arange(6, dtype=np.float16).reshape(2, 3), np.array(7), np.zeros((0, 3)), np.array([True, False])]
    message = {"arrays": arrays, "data": b"\x00\xff", "text": "größer", "numbers": [1, 2.5, None, float("inf")]}
    answer = honest.call("echo", message)
    assert [a.dtype for a in answer["arrays"]] == [a.dtype for a in arrays]
    for got, sent in zip(answer.pop("arrays"), message.pop("arrays"), strict=True):
        np.testing.assert_array_equal(got, sent)
    assert answer == message


def test_target_lives_in_another_process_between_calls(honest: Sandbox) -> None:
    assert honest.call("remember", {"add": 2})["count"] == 2
    answer = honest.call("remember", {"add": 3})
    assert answer["count"] == 5
    assert answer["process"] != os.getpid()
    assert not answer["torch"], "the sandbox itself must not need torch"


def test_generator_streams_its_events_in_order(honest: Sandbox) -> None:
    events: list[int] = []
    answer = honest.call("stream", {"steps": 5}, on_event=lambda event: events.append(int(event["array"][0])))
    assert events == [0, 1, 2, 3, 4]
    assert answer == {"steps": 5}
    assert honest.call("echo", {"still": "there"}) == {"still": "there"}


def test_error_of_the_observer_ends_the_child(honest: Sandbox) -> None:
    def fail(_: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        honest.call("stream", {"steps": 5}, on_event=fail)
    with pytest.raises(SandboxDiedError, match="start another"):
        honest.call("echo", {})


def test_known_errors_come_back_as_what_they_are() -> None:
    from sandbox_targets import ForeseenError, SpecialForeseenError

    with closing(Sandbox("sandbox_targets:Failing", limits=SMALL, errors=[ForeseenError])) as sandbox:
        with pytest.raises(ForeseenError, match="expected a cat") as caught:
            sandbox.call("foreseen", {})
        assert type(caught.value) is SpecialForeseenError
        assert (caught.value.node, caught.value.limits) == ("Conv_1", [1, 2])
        with pytest.raises(ForeseenError) as overridden:
            sandbox.call("overriding", {})
        assert (overridden.value.severity, overridden.value.node) == (3, "Conv_1"), "the class says how bad it is"
        with pytest.raises(UnexpectedError, match=r"ZeroDivisionError.*defect") as unexpected:
            sandbox.call("unforeseen", {})
        assert "in unforeseen" in unexpected.value.child_traceback
        with pytest.raises(UnexpectedError, match="found a object"):
            sandbox.call("unsendable", {})
        with pytest.raises(UnexpectedError, match="no_such_method"):
            sandbox.call("no_such_method", {})
        with pytest.raises(ResourceLimitError, match="bytes of memory"):
            sandbox.call("out_of_memory", {})


def test_unknown_errors_are_not_rebuilt() -> None:
    with (
        closing(Sandbox("sandbox_targets:Failing", limits=SMALL)) as sandbox,
        pytest.raises(UnexpectedError, match="SpecialForeseenError"),
    ):
        sandbox.call("foreseen", {})


def test_error_of_the_constructor_comes_back() -> None:
    from sandbox_targets import ForeseenError

    with pytest.raises(ForeseenError, match="no"):
        Sandbox("sandbox_targets:Unconstructible", limits=SMALL, errors=[ForeseenError])
    with pytest.raises(UnexpectedError, match="no_such_module"):
        Sandbox("no_such_module:Target", limits=SMALL)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGTERM"])
def test_death_by_signal_is_named(hostile: Sandbox, name: str) -> None:
    with pytest.raises(SandboxDiedError) as caught:
        hostile.call("die", {"signal": name}, limits=QUICK)
    assert caught.value.reason == {"SIGKILL": "killed"}.get(name, name)
    assert caught.value.phase == "test"


def test_crash_leaves_the_python_stack_for_debugging(hostile: Sandbox) -> None:
    with pytest.raises(SandboxDiedError) as caught:
        hostile.call("crash", {}, limits=QUICK)
    assert "in crash" in caught.value.output


def test_silent_exit_is_named(hostile: Sandbox) -> None:
    with pytest.raises(SandboxDiedError, match="exit code 0"):
        hostile.call("leave", {"code": 0}, limits=QUICK)


def test_memory_bomb_ends_at_the_limit(hostile: Sandbox) -> None:
    with pytest.raises(ResourceLimitError) as caught:
        hostile.call("fill_memory", {}, limits=QUICK)
    assert caught.value.resource == "memory_bytes"
    assert caught.value.limit == SMALL.memory_bytes


def test_phase_can_have_less_memory(hostile: Sandbox) -> None:
    with pytest.raises(ResourceLimitError) as caught:
        hostile.call("fill_memory", {}, limits=PhaseLimits("intake", memory_bytes=200 * MIB))
    assert caught.value.limit == 200 * MIB


@linux
def test_address_space_is_limited(hostile: Sandbox) -> None:
    assert hostile.call("reserve_memory", {"bytes": GIB})["size"] == GIB
    with pytest.raises((UnexpectedError, ResourceLimitError)):
        hostile.call("reserve_memory", {"bytes": 1 << 40})


def test_cpu_bomb_ends_at_the_limit(hostile: Sandbox) -> None:
    start = time.monotonic()
    with pytest.raises(ResourceLimitError) as caught:
        hostile.call("spin", {}, limits=PhaseLimits("import", wall_seconds=60, cpu_seconds=1))
    assert caught.value.resource == "cpu_seconds"
    assert time.monotonic() - start < 30


def test_cpu_limit_counts_each_phase_for_itself(honest: Sandbox) -> None:
    for _ in range(3):
        honest.call("work", {"seconds": 0.6}, limits=PhaseLimits(cpu_seconds=2))
    honest.call("work", {"seconds": 0.6}, limits=PhaseLimits(cpu_seconds=None))


@pytest.mark.parametrize("method", ["sleep", "stop_itself"])
def test_hang_ends_at_the_wall_limit(hostile: Sandbox, method: str) -> None:
    with pytest.raises(ResourceLimitError) as caught:
        hostile.call(method, {}, limits=PhaseLimits("import", wall_seconds=0.5))
    assert caught.value.resource == "wall_seconds"
    assert caught.value.actual is not None
    assert 0.5 < caught.value.actual < 5


def test_long_phase_is_only_stopped_when_it_falls_silent(honest: Sandbox) -> None:
    patient = PhaseLimits("scan", wall_seconds=None, cpu_seconds=None, silence_seconds=1.0)
    honest.call("trickle", {"steps": 6, "seconds": 0.3}, limits=patient)
    with pytest.raises(ResourceLimitError) as caught:
        honest.call("trickle", {"steps": 1, "seconds": 30}, limits=patient)
    assert caught.value.resource == "silence_seconds"


def test_huge_answer_is_refused(honest: Sandbox) -> None:
    assert honest.call("big", {"bytes": 32 * MIB})["array"].nbytes == 32 * MIB
    with pytest.raises(SandboxDiedError, match="at most 67108864 bytes"):
        honest.call("big", {"bytes": 65 * MIB})


@pytest.mark.parametrize(
    "garbage",
    [
        b"not a frame at all",
        _frame(b"", header_size=1 << 31),
        _frame(b"[1,2"),
        _frame(b"[]"),
        _frame(b'{"body": [], "buffers": []}'),
        _frame(b'{"body": {"kind": "result"}, "buffers": []}'),
        _frame(b'{"body": {"kind": "result", "message": {"$": 0}}, "buffers": []}'),
        _frame(b'{"body": {"kind": "result", "message": {}}, "buffers": [{"dtype": "|O8", "shape": [0]}]}'),
        _frame(b'{"body": {"kind": "result", "message": {}}, "buffers": [{"dtype": "<f8", "shape": [8]}]}'),
        _frame(b'{"body": {"kind": "result", "message": {}}, "buffers": [{"dtype": "<f8", "shape": [-1]}]}'),
        _frame(b"[" * 100_000),
    ],
)
def test_garbage_answers_are_refused(hostile: Sandbox, garbage: bytes) -> None:
    with pytest.raises(SandboxDiedError) as caught:
        hostile.call("talk_over_the_wire", {"bytes": garbage}, limits=QUICK)
    assert caught.value.reason == "garbage"


def test_terminal_output_neither_blocks_nor_mixes_with_answers(hostile: Sandbox) -> None:
    assert hostile.call("chatter", {"bytes": 4 * MIB}, limits=QUICK) == {}


@linux
@pytest.mark.parametrize("what", ["connect", "open_unix_socket", "run", "fork", "signal_parent"])
def test_network_programs_and_processes_are_refused(confined: Sandbox, what: str) -> None:
    assert confined.call("attempt", {"what": what})["refused"] == "PermissionError"


@linux
@pytest.mark.parametrize("what", ["make_file", "truncate", "remove", "change_mode", "make_folder", "link"])
def test_nothing_outside_the_scratch_folder_changes(confined: Sandbox, tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    if what in ("truncate", "remove", "change_mode"):
        path.write_text("precious")
    before = path.read_text() if path.exists() else None
    assert confined.call("attempt", {"what": what, "path": str(path)})["refused"] == "PermissionError"
    assert before == (path.read_text() if path.exists() else None)


@pytest.mark.parametrize("what", ["write_scratch", "start_thread"])
def test_what_libraries_need_is_allowed(confined: Sandbox, what: str) -> None:
    assert confined.call("attempt", {"what": what}) == {"refused": None}


def test_file_size_and_count_are_limited(hostile: Sandbox) -> None:
    assert "large" in hostile.call("attempt", {"what": "write_large_file"})["text"]
    assert "Too many open files" in hostile.call("attempt", {"what": "open_many_files"})["text"]


@linux
def test_child_inherits_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with (tmp_path / "open.txt").open("w") as file, closing(Sandbox("sandbox_targets:Honest", limits=SMALL)) as sandbox:
        os.set_inheritable(file.fileno(), True)
        seen = sandbox.call("surroundings", {})
    assert "GITHUB_TOKEN" not in seen["environment"]
    assert str(tmp_path) not in seen["path"]
    assert not [target for target in seen["descriptors"] if target.startswith(str(tmp_path))]
    assert seen["environment"]["HOME"] == seen["folder"] != str(tmp_path)
    assert not Path(seen["folder"]).exists(), "the scratch folder must go with the child"


def test_markers_on_the_module_path_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Editable installs find their packages by an entry that is no path."""
    monkeypatch.syspath_prepend("__editable__.backscan.finder.__path_hook__")
    with closing(Sandbox("sandbox_targets:Honest", limits=SMALL)) as sandbox:
        assert "__editable__.backscan.finder.__path_hook__" in sandbox.call("surroundings", {})["path"]


@linux
def test_protections_are_named(honest: Sandbox) -> None:
    assert any("Landlock" in sentence for sentence in honest.protections.active)
    assert any("no network" in sentence for sentence in honest.protections.active)
    assert honest.protections.missing == ()


def test_missing_protections_are_named() -> None:
    limits = Limits(memory_bytes=400 * MIB, bounded_address_space=False)
    with closing(Sandbox("sandbox_targets:Honest", limits=limits)) as sandbox:
        assert "address space" in sandbox.protections.missing[0]


@linux
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_child_ends_with_its_parent(name: str) -> None:
    script = """
        import sys, time
        from backscan.converters.sandbox.sandbox import Sandbox
        sandbox = Sandbox("sandbox_targets:Hostile")
        print(sandbox._child.process.pid, flush=True)
        try:
            sandbox.call("sleep", {})
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.send_signal(getattr(signal, name))
        rest = parent.stdout.read()
    assert rest == ("interrupted\n" if name == "SIGINT" else "")
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def test_in_process_gives_the_same_answers() -> None:
    events: list[object] = []
    debugging = InProcess("sandbox_targets:Honest")
    assert debugging.call("echo", {"pair": (1, 2)}) == {"pair": [1, 2]}
    assert debugging.call("stream", {"steps": 2}, on_event=events.append) == {"steps": 2}
    assert len(events) == 2
    assert debugging.protections.active == ()


def test_start_costs_less_than_a_second_of_cpu_time(honest: Sandbox) -> None:
    assert honest.call("cpu_time", {})["seconds"] < 1.0
