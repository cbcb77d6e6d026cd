# SPDX-License-Identifier: Apache-2.0
"""No hot path needs more instructions or allocations than on record. Where it must: `scripts/guard --record`, and say why."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import guard


class HotPaths(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.now = guard.measure(guard.ROOT / "build-release")
        cls.before = guard.recorded()

    def assert_none(self, lines):
        self.assertEqual(lines, [], "\n" + "\n".join(lines))

    def test_the_record_has_every_path(self):
        self.assertEqual(sorted(self.now["paths"]), sorted(self.before["paths"]))

    def test_no_path_needs_more_instructions(self):
        if self.now["made_with"] != self.before["made_with"]:
            # Passed, not skipped: the counts of another compiler or C library say nothing about this change.
            print(f"        not compared: this is {self.now['made_with']}, on record is {self.before['made_with']}")
            return
        self.assert_none(guard.worse_instructions(self.now, self.before))

    def test_no_path_allocates_more(self):
        self.assert_none(guard.worse_allocations(self.now, self.before))

    def test_a_path_that_gets_five_percent_worse_is_found(self):
        worse = {"made_with": "", "paths": {name: {**n, "instructions": n["instructions"] * 1.05} for name, n in self.before["paths"].items()}}
        self.assertEqual(len(guard.worse_instructions(worse, self.before)), len(self.before["paths"]))
