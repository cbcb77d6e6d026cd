# SPDX-License-Identifier: Apache-2.0
"""The lists behind docs/mqtt-conformance.md are whole, and the document is what they make."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
import conformance  # noqa: E402


class Conformance(unittest.TestCase):
    maxDiff = None

    def test_every_statement_for_servers_is_tested_or_explained(self):
        problems = list(conformance.problems())
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def test_the_document_is_what_the_lists_make(self):
        self.assertEqual(conformance.DOCUMENT.read_text(encoding="utf-8"), conformance.document(),
                         "run python3 tests/conformance/conformance.py")


if __name__ == "__main__":
    unittest.main()
