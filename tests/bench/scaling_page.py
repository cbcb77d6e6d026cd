#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/scaling.md, made of the model and of what the case `scaling` has measured.

As a program it answers for other machines and clients: scaling_page.py nodes=3 cores=16 memory_gib=64 publishes=1 reconnects=0.001
sets fields of scaling_model.Machines and, if any are named, those of a profile of one's own."""
import dataclasses
import re
import sys

import results as kept
import scaling_model as model

PAGE = kept.ROOT / "docs" / "scaling.md"
TABLE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.S)
NODES = (1, 3, 5)
ASSUMPTIONS = (
    ("nodes of RabbitMQ", lambda m: f"{m.cores} cores, {m.memory_gib:g} GiB each"),
    ("a gateway", lambda m: f"{m.gateway_cores} cores with a worker each, {m.gateway_gib:g} GiB"),
    ("cores in use at most, of RabbitMQ and of gateways", lambda _: f"{model.BUSY:.0%}"),
    ("wake-ups for each operation; writes for each delivery", lambda _: f"{model.WAKES:.1f}; 1"),
    ("memory of a node in use at most (RabbitMQ's `vm_memory_high_watermark`)", lambda _: f"{model.WATERMARK:.0%}"),
    ("memory of a gateway for what waits for clients", lambda _: f"{model.MEMORY_SPARE:.0%}"),
    ("connections of a gateway at most (`[[listener]] max_connections`)", lambda _: f"{model.CLIENTS_MAX:,}"),
    ("gateways at most", lambda _: f"{model.GATEWAYS_MAX}"),
    ("a gateway's start at most, until it is ready", lambda _: f"{model.REPLAY_MAX_S} s"),
    ("until bindings are made again at most: all after a restart of a single RabbitMQ, in a cluster those of a gateway that is lost", lambda _: f"{model.REBIND_MAX_S} s"),
    ("the state log (`[state] max_bytes`)", lambda _: f"{model.LOG_GIB} GiB, 1/{model.LOG_SHARE} of it what lives"),
)


def about(value):
    """Two digits: the model knows no more."""
    return f"{float(f'{value:.2g}'):,.0f}"


def units_table(result):
    heading = ["operation", "RabbitMQ's CPU, µs", "gateway's CPU, µs", "RabbitMQ's memory, bytes", "gateway's memory, bytes", "state log, bytes"]
    forms = (("broker_us", "{:,.1f}"), ("gateway_us", "{:,.1f}"), ("broker_bytes", "{:,}"), ("gateway_bytes", "{:,}"), ("log_bytes", "{:,}"))
    yield from kept.markdown_table(heading, [[row["what"], *(form.format(row[key]) if row.get(key) is not None else "" for key, form in forms)]
                                             for row in result["rows"] if "op" in row], left=1)
    yield from ("", kept.provenance(result))


def shares_table(result):
    rows = [row for row in result["rows"] if "share" in row]
    yield from kept.markdown_table(["RabbitMQ's CPU", "on one node", "in a cluster", "so much again", "for each"], [
        [row["what"], f"{row['one_us']:,.1f} µs", f"{row['more_us']:,.1f} µs", f"{row['value']:.0%}", row["each"]] for row in rows], left=1)


def assumptions_table(_):
    yield from kept.markdown_table(["assumed", ""], [[name, value(model.Machines())] for name, value in ASSUMPTIONS])


def profiles_table(_):
    yield from kept.markdown_table(["clients", "what each does"], [[p.name, p.about] for p in model.PROFILES])


def scenario(costs, profile, machines):
    found = model.in_order(costs, profile, machines)
    clients, first = found[0]
    point = model.at(costs, profile, machines, clients)
    counts = point.per_second()
    return [profile.name, f"{machines.nodes}", about(clients), f"{point.gateways}", about(counts["publish"]), about(counts.get("delivery", 0) + counts.get("kept", 0)),
            first, f"{found[1][1]} at {about(found[1][0])}" if len(found) > 1 else ""]


SCENARIO = ["clients", "nodes", "connections", "gateways", "messages/s in", "deliveries/s", "first wall", "the next"]


def scenarios_table(result):
    costs = model.costs_of(result["rows"])
    yield from kept.markdown_table(SCENARIO, [scenario(costs, profile, model.Machines(nodes=nodes)) for profile in model.PROFILES for nodes in NODES], left=1)


def walls_table(result):
    costs = model.costs_of(result["rows"])
    yield from kept.markdown_table(["clients", "walls, with three nodes, each at so many connections"], [
        [p.name, "; ".join(f"{name} {about(clients)}" for clients, name in model.in_order(costs, p, model.Machines(nodes=3)))] for p in model.PROFILES])


def check_table(result):
    lines = []
    for row in result["rows"]:
        if "off" in row:
            form, unit = ("{:,.2f} s", "s") if "predicted_s" in row else ("{:,.1f} MB", "mb")
            lines.append([row["what"], row["side"], form.format(row[f"predicted_{unit}"]), form.format(row[f"measured_{unit}"]), f"{row['off']:+.0%}"])
    yield from kept.markdown_table(["", "of", "predicted", "measured", "off by"], lines)
    counts = next(row["counts"] for row in result["rows"] if "counts" in row)
    wakes = next(row["wakes"] for row in result["rows"] if "wakes" in row)
    yield from ("", "Of a round: " + ", ".join(f"{op} {n:,}" for op, n in counts.items() if n) +
                "; wake-ups of " + ", ".join(f"{model.SIDES[side]} {n:,}" for side, n in wakes.items()) + ".")


TABLES = {"units": units_table, "shares": shares_table, "assumptions": assumptions_table, "profiles": profiles_table,
          "scenarios": scenarios_table, "walls": walls_table, "check": check_table}


def page_of(text, results):
    """The page with its tables made anew; as it is where nothing was measured."""
    if "scaling" not in results:
        return text
    return TABLE.sub(lambda m: m[1] + "\n" + "\n".join(TABLES[m[2]](results["scaling"])) + "\n\n" + m[3], text)


def chosen(kind, words):
    """Of `name=value` words those that are fields of a dataclass, as its types."""
    types = {field.name: field.type for field in dataclasses.fields(kind)}
    return {name: types[name](float(value)) for name, value in words.items() if name in types}


def main():
    words = dict(word.split("=") for word in sys.argv[1:])
    machines = model.Machines(**chosen(model.Machines, words))
    unknown = set(words) - {field.name for kind in (model.Machines, model.Profile) for field in dataclasses.fields(kind)}
    if unknown:
        sys.exit(f"there is no {', '.join(sorted(unknown))}")
    own = chosen(model.Profile, {name: value for name, value in words.items() if name not in ("name", "about")})
    costs = model.costs_of(kept.parse(kept.JSON.read_text())["scaling"]["rows"])
    profiles = (model.Profile("yours", "", **own),) if own else model.PROFILES
    print("\n".join(kept.markdown_table(SCENARIO, [scenario(costs, profile, machines) for profile in profiles], left=1)))


if __name__ == "__main__":
    main()
