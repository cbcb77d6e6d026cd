# SPDX-License-Identifier: Apache-2.0
"""Breaks Headgate on purpose: applies each patch of this folder to a copy of the tree, builds it and runs the tests that the patch names,
which must fail; unpatched they must pass. `tests/mutants/run.py [NAME…]`; it takes minutes, so scripts/test does not run it (there a
test checks that every patch still applies). The copy is in build-mutants, built there from one patch to the next."""
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import mutants  # noqa: E402

COPY = mutants.ROOT / "build-mutants"
BUILD = COPY / "build"
BUILD_LIMIT_S, TEST_LIMIT_S = 900, 10  # a test that waits for what a mutant never does ends after the second
os.environ.setdefault("HEADGATE_TEST_LIMIT_S", str(TEST_LIMIT_S))
os.environ["HEADGATE_BINARY"] = str(BUILD / "headgate")
sys.path.insert(0, str(mutants.ROOT / "tests" / "e2e"))
from harness import broker  # noqa: E402


def copy_tree():
    """The work tree without what git ignores; files that are the same keep their time, so that little is built again."""
    names = subprocess.run(["git", "ls-files", "-zco", "--exclude-standard", "meson.build", "meson_options.txt", "src", "tests", "config"],
                           cwd=mutants.ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        source, target = mutants.ROOT / name, COPY / name
        if source.is_file() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def build():
    """None, or the compiler's words."""
    if not (BUILD / "build.ninja").exists():
        subprocess.run(["meson", "setup", str(BUILD), str(COPY), "-Ddebug=true", "-Doptimization=1"], check=True, stdout=subprocess.DEVNULL)
    done = subprocess.run(["ninja", "-C", str(BUILD), "headgate"], capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
    return done.stdout[-3000:] if done.returncode else None


def failures(names):
    """Those of the tests that fail."""
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromNames(names).run(result)
    return {test.id().partition(" ")[0] for test, _ in (*result.failures, *result.errors)}


def says(mutant):
    """Applies it, and takes it back: None where its tests notice, or what is wrong."""
    problem = mutant.git_apply(root=COPY)
    if problem:
        return f"does not apply: {problem}"
    try:
        problem = build()
        if problem:
            return f"does not build: {problem}"
        unharmed = [test for test in mutant.tests if not failures([test])]
        return f"survives {', '.join(unharmed)}" if unharmed else None
    finally:
        mutant.git_apply("-R", root=COPY)


def main(names):
    wanted = [x for x in mutants.everyone() if not names or any(n in x.name for n in names)]
    copy_tree()
    bad = 0
    try:
        problem = build()
        if problem:
            sys.exit(f"the tree itself does not build: {problem}")
        broken = failures(sorted({test for x in wanted for test in x.tests}))
        if broken:
            sys.exit("these fail without any mutant:\n" + "\n".join(sorted(broken)))
        for mutant in wanted:
            problem = says(mutant)
            bad += problem is not None
            print(f"{'SURVIVES' if problem else 'noticed '} {mutant.name}: {problem or mutant.breaks}", flush=True)
    finally:
        broker.stop_shared()
    print(f"{len(wanted) - bad} of {len(wanted)} noticed")
    return 1 if bad or not wanted else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
