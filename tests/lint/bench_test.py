# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks say about themselves: saved pages are what their results make, limits name cases and figures that there are."""
import pathlib
import re
import sys
import unittest
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import limits  # noqa: E402
import plot  # noqa: E402
import results  # noqa: E402
import run  # noqa: E402,F401 # knows all cases


class Bench(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.saved = results.parse(results.JSON.read_text(encoding="utf-8"))

    def test_the_page_and_the_picture_are_what_the_results_make(self):
        again = "run tests/bench/run.py --redraw"
        self.assertEqual(results.JSON.read_text(encoding="utf-8"), results.text_of(self.saved), again)
        self.assertEqual(results.PAGE.read_text(encoding="utf-8"), results.page_of(self.saved), again)
        self.assertEqual(results.PICTURE.read_text(encoding="utf-8"), plot.picture_of(self.saved), again)

    def test_the_picture_is_xml_with_colours_for_light_and_dark(self):
        picture = plot.picture_of(self.saved)
        xml.etree.ElementTree.fromstring(picture)
        self.assertIn("prefers-color-scheme: dark", picture)
        self.assertNotRegex(picture, r'(fill|style)="')

    def test_every_result_names_machine_versions_and_date(self):
        for name, result in self.saved.items():
            with self.subTest(name):
                self.assertRegex(results.provenance(result), r"\d{4}-\d\d-\d\d \d\d:\d\d UTC; \d+ cores of .*headgate .*RabbitMQ \d.*mosquitto \d")

    def test_every_limit_is_of_a_case_and_met_or_not_at_its_bound(self):
        for limit in limits.LIMITS:
            with self.subTest(limit.text):
                self.assertIn(limit.case, results.CASES)
                self.assertEqual(limit.verdict({}), ("not measured", None))
                self.assertNotEqual(limit.least is None, limit.most is None)

    def test_a_limit_in_seconds_stands_as_a_ratio_to_direct_amqp_of_the_same_run_too(self):
        def verdicts(direct_us, both_us, own_us):
            rows = [{"what": "HTTP POST", "side": "direct AMQP", "cpu_us": direct_us}, {"what": "HTTP POST", "side": "Headgate", "cpu_us": both_us, "gateway_us": own_us}]
            return [limit.verdict({"fanin": {"rows": rows, "quick": False}}) for limit in limits.LIMITS if limit.text.startswith("HTTP POST")]
        self.assertEqual(verdicts(21, 27, 5), [("27.0 s", True), ("1.29 times", True), ("5.0 s", True), ("0.24 times", True)])
        self.assertEqual(verdicts(42, 50, 11), [("50.0 s", False), ("1.19 times", True), ("11.0 s", False), ("0.26 times", False)])
        self.assertEqual(limits.P50_MOST_RATIO, 2.03)

    def test_the_page_says_why_limits_stand_there_twice(self):
        self.assertIn("On the machine of these results direct AMQP itself takes 32 to 34 s and 208 µs",
                      limits.about_ratios({"fanin": {"rows": [{"what": what, "side": "direct AMQP", "cpu_us": us} for what, us in
                                                              zip(limits.CONFIRMED, (31.6, 33.6, 33.2))]},
                                           "latency": {"rows": [{"what": "1,000 messages/s", "side": "direct AMQP", "p50_us": 208}]}}))
        self.assertEqual(limits.about_ratios({}), "")

    def test_a_row_without_a_figure_has_an_empty_cell(self):
        case = results.CASES["fanout"]
        heading, lines = results.cells(case, [{"what": "mqtt", "side": "Headgate", "per_s": 12345.6, "times_plugin": 2.0},
                                              {"what": "mqtt", "side": "bare loop", "per_s": 1}])
        self.assertEqual(heading, ["", "server", "deliveries/s", "× plugin"])
        self.assertEqual(lines, [["mqtt", "Headgate", "12,346", "2.0"], ["mqtt", "bare loop", "1", ""]])

    def test_the_cases_have_names_that_can_be_typed(self):
        for name, case in results.CASES.items():
            self.assertRegex(name, re.compile(r"^[a-z]+$"))
            self.assertEqual(case.name, name)


if __name__ == "__main__":
    unittest.main()
