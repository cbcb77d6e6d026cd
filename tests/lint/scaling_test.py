# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of the scaling model: costs come out of experiments, add up, and walls stand where they should."""
import dataclasses
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import results  # noqa: E402
import run  # noqa: E402,F401 # knows all cases
import scaling_model as model  # noqa: E402
import scaling_page  # noqa: E402

BROKER = {"idle": 1000, "publish": 10, "queue": 20, "feed": 30, "connect": 20, "heard": 10, "disconnect": 2, "bind": 400, "unbind": 300,
          "session": 4000, "leave": 200, "resume": 600, "end": 2000, "kept": 40, "record": 50, "reread": 5, "replay": 20}
GATEWAY = {"publish": 3, "queue": 1, "feed": 3, "delivery": 0.2, "write": 4, "connect": 40, "heard": 2, "disconnect": 20, "bind": 20,
           "unbind": 20, "session": 200, "leave": 30, "resume": 60, "end": 50, "kept": 4, "record": 5, "reread": 4, "replay": 3}
COSTS = model.Costs(BROKER, GATEWAY, {"connect": 0, "bind": 2400, "session": 60000}, {"connect": 800, "bind": 200, "session": 3000, "record": 450},
                    {"session": 1000, "record": 700}, wire_share=0.5, copy_share=0.25, log_share=0.4)
DEVICES, WIDE, KEPT, VALUES, BOARDS = model.PROFILES


def machines(nodes=1, **options):
    return model.Machines(nodes=nodes, **options)


class Scaling(unittest.TestCase):
    def test_costs_come_out_of_experiments_that_each_did_other_things_besides(self):
        truth = {"publish": 10.0, "feed": 30.0, "delivery": 0.5}
        runs = [("publish", {"publish": 1000}), ("feed", {"publish": 500, "feed": 500, "delivery": 500}),
                ("delivery", {"publish": 100, "feed": 100, "delivery": 10000})]
        experiments = [(op, counts, sum(n * truth[o] for o, n in counts.items())) for op, counts in runs]
        for op, found in model.solve(experiments).items():
            self.assertAlmostEqual(found, truth[op], places=6)

    def test_no_cost_is_negative_and_what_is_not_asked_for_is_no_ones(self):
        self.assertEqual(model.solve([("a", {"a": 10, "idle": 99}, 100), ("b", {"a": 10, "b": 1}, 90)]), {"a": 10, "b": 0})

    def test_seconds_are_sums_of_counts_times_costs(self):
        self.assertAlmostEqual(COSTS.cpu_s("broker", {"publish": 1e6, "queue": 5e5, "unheard": 9}), 20)
        self.assertAlmostEqual(COSTS.cpu_s("gateway", {"delivery": 1e7, "write": 1e6}), 6)

    def test_rows_give_the_costs_that_they_hold(self):
        rows = [{"op": "publish", "broker_us": 9, "gateway_us": 3}, {"op": "delivery", "gateway_us": 1}, {"what": "check", "off": 0.1},
                {"share": "wire_share", "value": 0.3}]
        costs = model.costs_of(rows)
        self.assertEqual((costs.broker_us, costs.gateway_us, costs.wire_share, costs.copy_share), ({"publish": 9}, {"publish": 3, "delivery": 1}, 0.3, 0))

    def test_a_binding_costs_every_node_and_a_message_only_what_crosses(self):
        for op, nodes, factor in (("bind", 1, 1), ("bind", 3, 1.5), ("bind", 5, 2), ("record", 3, 1.8), ("feed", 1, 1), ("feed", 2, 1.25), ("feed", 5, 1.4)):
            with self.subTest(op=op, nodes=nodes):
                self.assertAlmostEqual(model.cluster_factor(COSTS, op, nodes), factor)

    def test_a_wide_binding_takes_each_message_to_every_worker_and_an_exact_one_to_its_client(self):
        wide, exact = (model.Point(p, machines(), 6000, 5).per_second() for p in (WIDE, DEVICES))
        self.assertAlmostEqual(exact["feed"], 6000 / 600)
        self.assertAlmostEqual(wide["feed"], 6000 / 600 * 5 * 4)
        self.assertEqual((wide.get("bind", 0), exact["bind"], wide["delivery"]), (0, exact["connect"], exact["delivery"]))

    def test_kept_sessions_resume_and_do_not_bind_again(self):
        counts = model.Point(KEPT, machines(), 36000, 2).per_second()
        self.assertAlmostEqual(counts["resume"], 10)
        self.assertAlmostEqual(counts["reread"], 30)
        self.assertNotIn("bind", counts)

    def test_a_wall_stands_where_its_limit_is_reached(self):
        for profile in model.PROFILES:
            for clients, name in model.in_order(COSTS, profile, machines(3)):
                with self.subTest(profile.name, wall=name):
                    before, behind = (model.at(COSTS, profile, machines(3), clients * f) for f in (0.98, 1.02))
                    self.assertLessEqual(model.walls(COSTS, before)[name], 1)
                    self.assertGreater(model.walls(COSTS, behind)[name], 1)

    def test_walls_move_by_what_is_said_to_move_them(self):
        def stands(wall, profile, of=machines(3)):
            return model.clients_at(COSTS, profile, of, wall)
        cpu, rebinding = "RabbitMQ's CPU", "bindings after a restart of RabbitMQ"
        self.assertGreater(stands(cpu, DEVICES, machines(5)), stands(cpu, DEVICES))
        self.assertLess(stands("bindings that come and go", DEVICES, machines(5)), stands("bindings that come and go", DEVICES))
        self.assertAlmostEqual(stands(rebinding, DEVICES, machines()), model.rebound(COSTS, machines()), delta=1000)
        self.assertEqual([stands(rebinding, WIDE, machines()), stands(rebinding, DEVICES)], 2 * [float("inf")])
        self.assertGreater(stands("RabbitMQ's memory", KEPT, machines(3, memory_gib=64)), 3 * stands("RabbitMQ's memory", KEPT))

    def test_a_cluster_has_gateways_small_enough_to_lose(self):
        dear = dataclasses.replace(COSTS, copy_share=5)
        for nodes, gateways in ((1, 2), (3, 10)):
            self.assertEqual(model.gateways_needed(dear, DEVICES, machines(nodes, gateway_cores=64), model.rebound(dear, machines(3)) * 9.5), gateways)

    def test_what_a_second_brings_grows_with_the_clients(self):
        for profile in model.PROFILES:
            one, ten = (model.Point(profile, machines(), n, 3).per_second() for n in (1000, 10000))
            for op in one:
                with self.subTest(profile.name, op=op):
                    self.assertLessEqual(ten[op], 10 * one[op] + 1e-6)

    def test_gateways_are_as_many_as_connections_and_cpu_ask_for(self):
        self.assertEqual(model.gateways_needed(COSTS, DEVICES, machines(), 1), 1)
        self.assertGreaterEqual(model.gateways_needed(COSTS, DEVICES, machines(), 1e6), 10)
        self.assertEqual(model.gateways_needed(COSTS, VALUES, machines(), 1e9), model.GATEWAYS_COUNTED)

    def test_the_page_has_the_tables_that_the_results_make(self):
        saved = results.parse(results.JSON.read_text(encoding="utf-8"))
        text = scaling_page.PAGE.read_text(encoding="utf-8")
        self.assertIn("scaling", list(saved))
        self.assertEqual(text, scaling_page.page_of(text, saved), "run tests/bench/run.py --redraw")
        self.assertEqual({m[2] for m in scaling_page.TABLE.finditer(text)}, set(scaling_page.TABLES))

    def test_the_page_names_every_wall(self):
        text = scaling_page.PAGE.read_text(encoding="utf-8")
        for name in model.walls(COSTS, model.Point(DEVICES, machines(), 1, 1)):
            self.assertIn(f"**{name[0].upper()}{name[1:]}**", text)

    def test_every_case_of_the_page_is_in_the_saved_results(self):
        rows = results.parse(results.JSON.read_text(encoding="utf-8"))["scaling"]["rows"]
        self.assertEqual([row["op"] for row in rows if "op" in row], list(model.OPERATIONS))
        self.assertEqual({row["share"] for row in rows if "share" in row}, {"wire_share", "copy_share", "queue_share", "log_share"})


if __name__ == "__main__":
    unittest.main()
