"""Ports at which ranks meet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from launch import ports


def test_ports_in_use_are_passed_over() -> None:
    first, second, *_ = ports.free(3, job=707)
    with socket.socket() as other:
        other.bind(("", first))
        other.listen()
        found = ports.free(3, job=707)
    assert first not in found and found[0] == second


def test_jobs_beside_each_other_choose_different_ports() -> None:
    assert not set(ports.free(3, job=701)) & set(ports.free(3, job=702))


def test_the_command_prints_them_for_its_job() -> None:
    command = [sys.executable, "-m", "launch.ports", "2"]
    done = subprocess.run(command, env=os.environ | {"SLURM_JOB_ID": "707"}, capture_output=True, text=True)
    assert [int(word) for word in done.stdout.split(",")] == ports.free(2, job=707)


@pytest.mark.parametrize("value", [None, "", "20000", "INFO: gpu\n20000,20001"])
def test_what_the_script_did_not_say_is_no_port(monkeypatch, value: str | None) -> None:
    monkeypatch.setenv(ports.VARIABLE, "20000,20001,20002")
    assert ports.given(2) == [20000, 20001]
    monkeypatch.setenv(ports.VARIABLE, value) if value is not None else monkeypatch.delenv(ports.VARIABLE)
    with pytest.raises(RuntimeError, match="expected 2 ports"):
        ports.given(2)


def test_too_many_are_refused() -> None:
    with pytest.raises(OSError, match="fewer than 12001 ports from 20000 to 31999 are free"):
        ports.free(12001, job=0)
