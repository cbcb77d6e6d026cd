# SPDX-License-Identifier: Apache-2.0
"""The lists behind the conformance documents are whole, and the documents are what they make."""
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
import conformance  # noqa: E402


class Conformance(unittest.TestCase):
    maxDiff = None

    def test_every_statement_for_servers_is_tested_or_explained(self):
        problems = [problem for document in conformance.DOCUMENTS for problem in conformance.problems(document)]
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def test_the_documents_are_what_the_lists_make(self):
        for document in conformance.DOCUMENTS:
            with self.subTest(document.path.name):
                self.assertEqual(document.path.read_text(encoding="utf-8"), conformance.text(document),
                                 "run python3 tests/conformance/conformance.py")


if __name__ == "__main__":
    unittest.main()
