#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs what scripts/test has built: lint, unit tests, hot paths, end-to-end tests, faults, fuzz targets, the benchmarks' own programs.
One line a test, the sum as the last line.

tests/run.py [NAME…] runs those whose full name ("unit/config/the_environment_is_put_in") contains one of the names. What takes long
(tests/faults/long, fuzz targets at length) runs only where a name begins with its suite's: "long", or with "long/soak" …; SHORT has shorter
ones.
"""
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
ASAN, RELEASE, FUZZ = (ROOT / f"build-{kind}" for kind in ("asan", "release", "fuzz"))
FUZZ_SECONDS = 5
MILLION = int(os.environ.get("HEADGATE_MILLION", "1000000"))
SHORT = {"soak": ["long/soak"], "million": ["long/million", "long/fuzz"]}
UNIT_LIMIT_S = 120
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=86:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}
CMOCKA_LINE = re.compile(r"^\[ +(OK|FAILED|SKIPPED) +\] (\w+)$", re.M)
OUTCOMES = {"OK": "passed", "FAILED": "failed", "SKIPPED": "skipped"}


class Report:
    def __init__(self, names):
        self.names = names
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}
        self.failed = []

    def wants(self, name):
        return not self.names or any(n in name for n in self.names)

    def add(self, outcome, name, detail="", seconds=None):
        self.counts[outcome] += 1
        took = "" if seconds is None or seconds < 1 else f" ({seconds:.1f} s)"
        print(f"{outcome:7} {name}{took}", flush=True)
        if outcome == "failed":
            self.failed.append(name)
            print(detail.rstrip()[-8000:], flush=True)
        elif detail:
            print(f"        {detail}", flush=True)

    def end(self):
        if self.failed:
            print("\nfailed:", *self.failed, sep="\n  ")
        if sum(self.counts.values()) == 0:
            print("no test has such a name")
        print("{passed} passed, {failed} failed, {skipped} skipped".format(**self.counts), flush=True)
        return 1 if self.failed or sum(self.counts.values()) == 0 else 0


def at_once(run, programs):
    """(program, how long it took, what run(program) returns), one after the other; as many run at a time as there are cores."""
    def timed(program):
        started = time.monotonic()
        done = run(program)
        return program, time.monotonic() - started, done

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(timed, programs)


# ---- unit: cmocka programs that meson knows about


def unit_programs(build):
    tests = json.loads(subprocess.run(["meson", "introspect", "--tests", str(build)], capture_output=True, check=True).stdout)
    return {t["name"]: t for t in tests if any(s.endswith("unit") for s in t["suite"])}


def run_unit(report, build, suite):
    def is_wanted(name):
        source = next(iter((ROOT / "tests" / "unit").rglob(f"{name}_test.c")), None)
        known = re.findall(r"cmocka_unit_test\w*\(\s*(\w+)", source.read_text()) if source else []
        return any(report.wants(f"{suite}/{name}/{k}") for k in known or [""])

    def run(test):
        try:
            done = subprocess.run(test["cmd"], env={**os.environ, **SANITIZER_ENV, **test["env"]}, cwd=build, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=UNIT_LIMIT_S)
            return done.returncode, done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as e:
            return "no end", (e.stdout or b"").decode(errors="replace")

    for test, seconds, (code, output) in at_once(run, [t for name, t in unit_programs(build).items() if is_wanted(name)]):
        whole = f"{suite}/{test['name']}"
        outcomes = {case: OUTCOMES[word] for word, case in CMOCKA_LINE.findall(output)}
        for case, outcome in outcomes.items():
            if report.wants(f"{whole}/{case}"):
                report.add(outcome, f"{whole}/{case}", output if outcome == "failed" else "")
        if not outcomes or (code != 0 and "failed" not in outcomes.values()):
            report.add("failed", whole, f"ended with {code}\n{output}", seconds)


# ---- e2e and lint: Python's unittest


class Result(unittest.TestResult):
    def __init__(self, report, suite):
        super().__init__()
        self.report = report
        self.suite = suite
        self.started = 0.0
        self.failed_id = None  # a test whose clean-up fails as well is one failure

    def name(self, test):
        # A failing setUpClass is no test case but has an id all the same: "setUpClass (module.Class)".
        parts = re.sub(r"^(setUp|tearDown)Class \((.*)\)$", r"\2.\1Class", test.id()).split(".")
        return "/".join([self.suite, *(p.removesuffix("_test").removeprefix("test_") for p in parts)])

    def startTest(self, test):
        self.started = time.monotonic()

    def done(self, outcome, test, detail=""):
        self.report.add(outcome, self.name(test), detail, time.monotonic() - self.started)

    def addSuccess(self, test):
        self.done("passed", test)

    def addError(self, test, err):
        text = self._exc_info_to_string(err, test)
        if test.id() == self.failed_id:
            print(text, flush=True)
            return
        self.failed_id = test.id()
        self.done("failed", test, text)

    def addFailure(self, test, err):
        self.addError(test, err)

    def addSkip(self, test, reason):
        self.done("skipped", test, reason)

    def addExpectedFailure(self, test, err):
        """A difference between Headgate and RabbitMQ's plugin is a failed assertion; all else is a fault of the test."""
        if issubclass(err[0], AssertionError):
            self.done("passed", test)
        else:
            self.addError(test, err)

    def addUnexpectedSuccess(self, test):
        self.done("failed", test, "the comparison with RabbitMQ's plugin says that this differs or is missing, but it is there")

    def addSubTest(self, test, subtest, err):
        if err is not None:
            print(subtest, flush=True)
            self.addError(test, err)


def cases(suite):
    for test in suite:
        yield from cases(test) if isinstance(test, unittest.TestSuite) else [test]


def load(folder):
    """The test cases of folder/*_test.py."""
    sys.path.insert(0, str(folder))
    for file in sorted(folder.glob("*_test.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
        yield from cases(unittest.defaultTestLoader.loadTestsFromModule(module))


def run_cases(report, suite, tests):
    result = Result(report, suite)
    wanted = [t for t in tests if report.wants(result.name(t))]
    unittest.TestSuite(wanted).run(result)


def run_e2e(report):
    os.environ["HEADGATE_BINARY"] = str(ASAN / "headgate")
    tests = list(load(ROOT / "tests" / "e2e"))
    from harness import broker, gateway  # found once load() has made it importable
    try:
        run_cases(report, "e2e", tests)
        gateway.BINARY = str(RELEASE / "headgate")
        again = [t for t in load(ROOT / "tests" / "e2e") if getattr(t, "also_on_release", False)]
        run_cases(report, "e2e-release", again)
    finally:
        broker.stop_shared()


def run_faults(report):
    """RabbitMQ and the gateway broken under load: with the sanitizers; what takes long as it is shipped, and only where it is asked for."""
    from harness import broker, gateway
    try:
        gateway.BINARY = str(ASAN / "headgate")
        run_cases(report, "faults", load(ROOT / "tests" / "faults"))
        if any(name.startswith("long") for name in report.names):
            gateway.BINARY = str(RELEASE / "headgate")
            run_cases(report, "long", load(ROOT / "tests" / "faults" / "long"))
    finally:
        broker.stop_shared()


def run_plugin(report):
    """The tests that RabbitMQ's own STOMP plugin can answer, against it: those must fail that show where Headgate differs."""
    from harness import broker  # run_e2e() has made it importable
    broker.STOMP = "plugin"
    try:
        run_cases(report, "e2e-plugin", [t for t in load(ROOT / "tests" / "e2e") if getattr(t, "also_against_plugin", False)])
    finally:
        broker.stop_shared()


# ---- fuzz: each target for a moment, from its seeds


def run_fuzz(report, suite, limit):
    """limit: libFuzzer's option that ends it."""
    def name_of(program):
        return f"{suite}/{program.name.removesuffix('_fuzz')}"

    def run(program):
        name = program.name.removesuffix("_fuzz")
        with tempfile.TemporaryDirectory(prefix="headgate-fuzz-") as found:
            seeds = ROOT / "tests" / "fuzz" / "corpus" / name
            command = [str(program), limit, "-max_len=4096", "-timeout=10", "-rss_limit_mb=1024",
                       "-print_final_stats=1", f"-artifact_prefix={FUZZ}/crash-{name}-", found]
            command += [str(seeds)] if seeds.is_dir() else []
            return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **SANITIZER_ENV})

    programs = [p for p in sorted((FUZZ / "tests" / "fuzz").glob("*_fuzz")) if report.wants(name_of(p))]
    for program, seconds, done in at_once(run, programs):
        runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
        report.add("passed" if done.returncode == 0 else "failed", name_of(program),
                   f"{runs.group(1)} inputs" if done.returncode == 0 and runs else done.stderr, seconds)


# ---- bench: do its programs still run? No figure is judged


def run_bench(report):
    cases = [c for c in ("calibration", "index") if report.wants(f"bench/{c}")]
    if not cases:
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        file = pathlib.Path(folder) / "results.json"
        done = subprocess.run([sys.executable, str(ROOT / "tests" / "bench" / "run.py"), "--build", str(RELEASE), "--quick", "--seconds", "0.1",
                               "--json", str(file), *cases], capture_output=True, text=True, check=False, timeout=UNIT_LIMIT_S)
        rows = {name: case["rows"] for name, case in json.loads(file.read_text()).items()} if file.exists() else {}
    for name in cases:
        is_whole = rows.get(name) and all(row.get("lost", 0) == 0 for row in rows[name])
        report.add("passed" if is_whole else "failed", f"bench/{name}", "" if is_whole else done.stdout + done.stderr, time.monotonic() - started)


def main():
    report = Report([whole for name in sys.argv[1:] for whole in SHORT.get(name, [name])])
    run_cases(report, "lint", load(ROOT / "tests" / "lint"))
    run_unit(report, ASAN, "unit")
    run_unit(report, RELEASE, "unit-release")
    run_cases(report, "guard", load(ROOT / "tests" / "guard"))
    run_e2e(report)
    run_faults(report)
    run_plugin(report)
    run_fuzz(report, "fuzz", f"-max_total_time={FUZZ_SECONDS}")
    if any(name.startswith("long") for name in report.names):
        run_fuzz(report, "long/fuzz", f"-runs={MILLION}")
    run_bench(report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
