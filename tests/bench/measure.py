# SPDX-License-Identifier: Apache-2.0
"""What processes use, and on what machine."""
import contextlib
import datetime
import os
import pathlib
import platform
import re
import resource
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CPUCLOCK_SCHED = 2
VOLUNTARY = re.compile(r"^voluntary_ctxt_switches:\s+(\d+)$", re.M)
SPARE_FILES = 200  # that a server opens beside its clients' connections


class Process:
    """A process, or all of a process group."""

    def __init__(self, pid, is_group=False):
        self.pid = pid
        self.is_group = is_group

    def pids(self):
        if not self.is_group:
            return [self.pid]
        found = []
        for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                if int(stat.read_text().rpartition(")")[2].split()[2]) == self.pid:
                    found.append(int(stat.parent.name))
        return found

    def anonymous_bytes(self):
        """Proportional set size of anonymous memory: without files, shared pages divided by their users."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Pss_Anon:\s+(\d+) kB", text, re.M).group(1)) * 1024
        return total

    def cpu_seconds(self):
        """User and system time so far, by the clock that clock_getcpuclockid(3) would name: /proc counts in hundredths of a second."""
        total = 0
        for pid in self.pids():
            with contextlib.suppress(OSError):
                total += time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
        return total

    def wakes(self):
        """How often its threads had nothing to do and were woken, so far: their voluntary context switches."""
        total = 0
        for pid in self.pids():
            for status in pathlib.Path(f"/proc/{pid}/task").glob("*/status"):
                with contextlib.suppress(OSError, AttributeError):
                    total += int(VOLUNTARY.search(status.read_text())[1])
        return total


class Together:
    """Several of them as one."""

    def __init__(self, processes):
        self.processes = processes

    def cpu_seconds(self):
        return sum(process.cpu_seconds() for process in self.processes)

    def wakes(self):
        return sum(process.wakes() for process in self.processes)


def connections_max():
    """Connections that one server can have: the limit of open files, raised as far as it may be."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536, 65536))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - SPARE_FILES


def first_line(*command):
    """What a command says in its first line; empty if it cannot be had."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return ""
    lines = (done.stdout or done.stderr).splitlines()
    return lines[0].strip() if lines else ""


def package_version(name):
    return first_line("dpkg-query", "-W", "-f", "${Version}", name) or "unknown"


def machine():
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)
    return {"cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(),
            "memory_gib": round(int(memory.group(1)) / 1024**2), "kernel": platform.release(),
            "load_before": round(os.getloadavg()[0], 1)}


def versions(binary):
    return {"headgate": first_line(str(binary), "version"), "commit": first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"),
            "rabbitmq": package_version("rabbitmq-server"), "erlang": package_version("erlang-base"),
            "mosquitto": package_version("mosquitto"), "librabbitmq": package_version("librabbitmq4")}


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
