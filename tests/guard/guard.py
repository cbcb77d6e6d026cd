#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Instructions and allocations of the hot paths against those on record (scripts/guard builds, then runs this).

Instructions are callgrind's and do not depend on the machine's load. They do depend on the compiler and the C library, so
counts.json names those it was made with; with others only allocations are compared. Processor features that the C library
chooses code by are switched off, so that one processor counts as another does.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
COUNTS = pathlib.Path(__file__).with_name("counts.json")
PROGRAM = "tests/guard/hot_paths"
TOLERANCE_PERCENT = 3
PLAIN_CPU = "glibc.cpu.hwcaps=" + ",".join("-" + feature for feature in (
    "AVX", "AVX2", "AVX2_Usable", "AVX512F", "AVX512VL", "AVX_Fast_Unaligned_Load", "BMI1", "BMI2", "ERMS", "FSRM", "LZCNT", "MOVBE", "RTM",
    "SSE4_1", "SSE4_2", "SSSE3"))


def run(command):
    env = {**os.environ, "GLIBC_TUNABLES": PLAIN_CPU, "LC_ALL": "C"}
    return subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout


def measure(build):
    """{"made_with": …, "paths": {name: {"instructions", "allocations"}}}, each a round."""
    with tempfile.NamedTemporaryFile(prefix="headgate-guard-") as counted:
        printed = run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={counted.name}", "--toggle-collect=path_*",
                       str(pathlib.Path(build) / PROGRAM)])
        table = run(["callgrind_annotate", "--inclusive=yes", "--threshold=100", counted.name])
    made_with, *lines = printed.splitlines()
    instructions = {name: int(n.replace(",", "")) for n, name in re.findall(r"^ *([\d,]+) .*:path_(\w+)[.\w]* \[", table, re.M)}
    paths = {}
    for name, rounds, allocations in map(str.split, lines):
        paths[name] = {"instructions": round(instructions[name] / int(rounds), 1), "allocations": int(allocations) / int(rounds)}
    return {"made_with": made_with, "paths": paths}


def recorded():
    return json.loads(COUNTS.read_text())


def record(now):
    lines = ",\n".join(f'    {json.dumps(name)}: {json.dumps(n)}' for name, n in now["paths"].items())
    COUNTS.write_text(f'{{\n  "made_with": {json.dumps(now["made_with"])},\n  "paths": {{\n{lines}\n  }}\n}}\n')


def worse_allocations(now, before):
    """A line per path that allocates more than it did."""
    return [f'{name}: {n["allocations"]:g} allocations a round, {before["paths"][name]["allocations"]:g} on record'
            for name, n in now["paths"].items() if n["allocations"] > before["paths"][name]["allocations"]]


def worse_instructions(now, before):
    """A line per path that is over the tolerance."""
    lines = []
    for name, n in now["paths"].items():
        was, is_now = before["paths"][name]["instructions"], n["instructions"]
        if is_now > was * (1 + TOLERANCE_PERCENT / 100):
            lines.append(f"{name}: {is_now:g} instructions a round, {was:g} on record ({100 * (is_now / was - 1):+.1f} %)")
    return lines


def main():
    parser = argparse.ArgumentParser(description="Instructions and allocations of the hot paths against those on record.")
    parser.add_argument("--build", default=str(ROOT / "build-release"), help="a release with link-time optimization")
    parser.add_argument("--record", action="store_true", help="keep these counts in tests/guard/counts.json")
    args = parser.parse_args()
    now = measure(args.build)
    before = recorded() if COUNTS.exists() else {"made_with": "", "paths": {}}
    print(now["made_with"])
    print(f'{"path":16}{"instructions":>14}{"on record":>12}{"":>9}{"allocations":>14}')
    for name, n in now["paths"].items():
        was = before["paths"].get(name, n)["instructions"]
        print(f'{name:16}{n["instructions"]:14.1f}{was:12.1f}{100 * (n["instructions"] / was - 1):+8.1f} %{n["allocations"]:13g}')
    if args.record:
        record(now)
        return 0
    worse = worse_allocations(now, before)
    if now["made_with"] == before["made_with"]:
        worse += worse_instructions(now, before)
    else:
        print("on record is " + before["made_with"] + ": instructions are not compared")
    print(*worse, sep="\n")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
