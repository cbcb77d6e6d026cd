#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures Headgate beside RabbitMQ's plugins, mosquitto, direct AMQP and a bare epoll loop, each a private server on loopback.

scripts/bench builds the release first and calls this. Sides of a comparison take turns (A B A B) after a warm-up and are compared by
their medians, so that a slow minute of the machine falls on all.
"""
import argparse
import contextlib
import pathlib
import signal
import sys
import tempfile
import time
import traceback

import cases_connections  # noqa: F401 # in the order in which they are run
import cases_fanout  # noqa: F401
import cases_fanin  # noqa: F401
import cases_robust  # noqa: F401
import cases_parts  # noqa: F401
import cases_settings  # noqa: F401
import cases_scaling  # noqa: F401
import measure
import plot
import results as kept
import scaling_page
from cases import CASES, Bench, Unavailable


def arguments():
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help="some cases; all without")
    parser.add_argument("--list", action="store_true", help="name the cases")
    parser.add_argument("--quick", action="store_true", help="small numbers and one round: does it work?")
    parser.add_argument("--rounds", type=int, help="turns of each side (3; quick: 1)")
    parser.add_argument("--seconds", type=float, help="of a turn (2; quick: 0.3)")
    parser.add_argument("--workers", type=int, default=0, help="of each gateway (0: one per core)")
    parser.add_argument("--save", action="store_true", help="put the results into docs/benchmarks, in place of those cases' old ones")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="write this run's results there; - is standard output")
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build-release", help="folder of the release (build-release)")
    parser.add_argument("--redraw", action="store_true", help="only make page and picture anew from what is saved")
    args = parser.parse_args()
    unknown = [name for name in args.cases if name not in CASES]
    if unknown:
        parser.error(f"there is no case {', '.join(unknown)}: {', '.join(CASES)}")
    if args.rounds is not None and args.rounds < 1:
        parser.error("--rounds is at least 1")
    return args


def save(new):
    kept.FOLDER.mkdir(parents=True, exist_ok=True)
    old = kept.parse(kept.JSON.read_text()) if kept.JSON.exists() else {}
    merged = {name: result for name, result in {**old, **new}.items() if name in CASES}
    kept.JSON.write_text(kept.text_of(merged))
    kept.PAGE.write_text(kept.page_of(merged))
    kept.PICTURE.write_text(plot.picture_of(merged))
    scaling_page.PAGE.write_text(scaling_page.page_of(scaling_page.PAGE.read_text(), merged))


def measure_all(args, names):
    """Results by name, and the names of cases that failed: one that fails does not stop the others."""
    results, failed = {}, []
    rounds = args.rounds or (1 if args.quick else 3)
    seconds = args.seconds or (0.3 if args.quick else 2)
    about = {"quick": args.quick, "rounds": rounds, "seconds": seconds, "workers": args.workers,
             "versions": measure.versions(args.build / "headgate")}
    measure.connections_max()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-"))
        bench = Bench(args.build.resolve(), folder, stack, args.quick, rounds, seconds, args.workers)
        for number, name in enumerate(names, 1):
            print(f"[{number}/{len(names)}] {name}: {CASES[name].title}", file=sys.stderr, flush=True)
            started = time.monotonic()
            machine = measure.machine()
            sys.stdout.flush()
            try:
                rows = CASES[name].run(bench)
            except Unavailable as e:
                print(f"  not measured here: {e}", file=sys.stderr)
                continue
            except Exception:  # noqa: BLE001 # whatever it is, the others are worth having
                traceback.print_exc()
                failed.append(name)
                continue
            results[name] = {"title": CASES[name].title, "date": measure.now(), **about, "machine": machine,
                             "took_s": round(time.monotonic() - started, 1), "rows": rows}
            kept.print_table(name, results[name])
            if args.save:  # at once: a run that is stopped has not been for nothing
                save({name: results[name]})
    return results, failed


def main():
    args = arguments()
    if args.list:
        for name, case in CASES.items():
            print(f"{name:12} {case.title}")
        return 0
    if args.redraw:
        save({})
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of what ends the servers
    started = time.monotonic()
    results, failed = measure_all(args, args.cases or list(CASES))
    kept.print_limits(results)
    for result in list(results.values())[:1]:
        print("\n" + kept.provenance(result).replace("**", ""))
    if args.json is not None:
        if str(args.json) == "-":
            print(kept.text_of(results), end="")
        else:
            args.json.write_text(kept.text_of(results))
    took = time.monotonic() - started
    print(f"{len(results)} cases in {took // 60:.0f} min {took % 60:.0f} s" + (f", failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
