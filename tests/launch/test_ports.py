"""Ports at which ranks meet."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from launch import ports


def test_ports_in_use_are_passed_over() -> None:
    first, second, *_ = ports.free(3, job=7)
    with socket.socket() as other:
        other.bind(("", first))
        other.listen()
        found = ports.free(3, job=7)
    assert first not in found and found[0] == second


def test_jobs_beside_each_other_choose_different_ports() -> None:
    assert not set(ports.free(3, job=1)) & set(ports.free(3, job=2))


def test_the_command_prints_them_for_its_job() -> None:
    command = [sys.executable, "-m", "launch.ports", "2"]
    done = subprocess.run(command, env=os.environ | {"SLURM_JOB_ID": "7"}, capture_output=True, text=True)
    assert [int(word) for word in done.stdout.split(",")] == ports.free(2, job=7)


def test_too_many_are_refused() -> None:
    with pytest.raises(OSError, match="fewer than 12001 ports from 20000 to 31999 are free"):
        ports.free(12001, job=0)
