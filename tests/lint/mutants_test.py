# SPDX-License-Identifier: Apache-2.0
"""The patches of tests/mutants still apply, and the tests that they name are there."""
import ast
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "mutants"))
import mutants  # noqa: E402


def has_test(name):
    """name: module.Class.test of tests/e2e."""
    module, cls, method = name.split(".")
    path = mutants.ROOT / "tests" / "e2e" / f"{module}.py"
    return path.exists() and any(isinstance(c, ast.ClassDef) and c.name == cls and any(getattr(f, "name", None) == method for f in c.body)
                                 for c in ast.parse(path.read_text(encoding="utf-8")).body)


class Mutants(unittest.TestCase):
    def test_every_patch_applies(self):
        problems = [f"{mutant.name}: {problem}" for mutant in mutants.everyone() if (problem := mutant.git_apply("--check"))]
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def test_every_patch_names_tests_that_are_there(self):
        self.assertGreaterEqual(len(mutants.everyone()), 20)
        problems = [f"{mutant.name}: {test}" for mutant in mutants.everyone() for test in mutant.tests if not has_test(test)]
        self.assertEqual(problems, [], "\n" + "\n".join(problems))


if __name__ == "__main__":
    unittest.main()
