"""One clock for a task: what is left of it, who is under it, and that a child at work is ended by it."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from backscan.converters.sandbox import clock as clock_module
from backscan.converters.sandbox.clock import clock, keeping, process_began, sparing, time_limit
from backscan.converters.sandbox.errors import TimeUpError
from backscan.converters.sandbox.runner import InProcess
from backscan.converters.sandbox.sandbox import Sandbox

TARGET = "sandbox_targets:Hostile"


@pytest.fixture
def at(monkeypatch):
    moment = [100.0]
    monkeypatch.setattr(clock_module, "now", lambda: moment[0])
    return moment


@pytest.mark.usefixtures("at")
def test_without_a_limit_there_is_always_time():
    assert not clock().is_limited
    assert clock().left() == math.inf
    assert clock().seconds(0.5) is None
    with time_limit(None):
        assert not clock().is_limited


def test_time_is_left_until_it_is_up(at):
    with time_limit(10.0):
        at[0] = 104.0
        assert (clock().left(), clock().seconds(0.5)) == (6.0, 3.0)
        at[0] = 111.0
        assert clock().left() == 0.0
    assert not clock().is_limited


@pytest.mark.usefixtures("at")
def test_a_task_may_have_begun_before():
    with time_limit(10.0, began=97.0):
        assert clock().left() == 7.0


@pytest.mark.usefixtures("at")
def test_the_outer_limit_stays():
    with time_limit(10.0), time_limit(99.0):
        assert clock().limit == 10.0


@pytest.mark.usefixtures("at")
def test_some_of_the_time_can_be_kept():
    with time_limit(10.0):
        with keeping(3.0), keeping(1.0):
            assert clock().left() == 6.0
        assert clock().left() == 10.0


@pytest.mark.usefixtures("at")
def test_work_can_be_asked_to_leave_some_to_other_work():
    with time_limit(10.0), keeping(1.0), sparing(4.0):
        assert (clock().left(), clock().left_for_work()) == (9.0, 5.0)


def test_this_process_began_in_the_past():
    ago = time.monotonic() - process_began()
    assert time.process_time() <= ago < 24 * 3600


def test_a_child_at_work_is_ended_when_the_time_is_up(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    sandbox = Sandbox(TARGET, threads=1)
    started = time.monotonic()
    with time_limit(0.5), pytest.raises(TimeUpError, match=r"the time limit of 0\.5 s was over in the step 'call'"):
        sandbox.call("sleep", {})
    assert time.monotonic() - started < 30.0
    # Whoever asks it afterwards learns the same, not that something broke.
    with pytest.raises(TimeUpError):
        sandbox.call("sleep", {})


def test_nothing_is_asked_once_the_time_is_up(at):
    runner = InProcess("collections:OrderedDict")
    with time_limit(1.0):
        at[0] += 2.0
        with pytest.raises(TimeUpError):
            runner.call("keys", {})
