# SPDX-License-Identifier: Apache-2.0
"""The picture of the results: bars as SVG, readable on light and on dark ground, its text selectable, the same bytes for the same results."""
import html
import math

WIDTH, BAR, GAP, LABEL, VALUE = 860, 16, 5, 250, 120
TOP, PANEL_HEAD, GROUP_HEAD, PANEL_END = 56, 34, 20, 18

STYLE = """
  text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
  .title { font-size: 17px; font-weight: 600; } .panel { font-size: 14px; font-weight: 600; } .note, .group { fill: #59636e; }
  .bar { fill: #8c959f; } .own { fill: #0969da; } .own-text { font-weight: 600; } .ground { fill: #ffffff; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .note, .group { fill: #9198a1; } .bar { fill: #656c76; } .own { fill: #4493f8; } .ground { fill: #0d1117; }
  }
"""

# case, heading, unit, field, form of a value, is it logarithmic?, which rows
PANELS = (
    ("fanout", "Fan-out: deliveries a second (logarithmic)", "per_s", "{:,.0f}/s", True,
     ("mqtt, 1 → 1,000", "mqtt, 1 → 10,000", "stomp-ws, 1 → 1,000", "mqtt, 1 → 100", "stomp-ws, 1 → 100")),
    ("idle", "Memory of an idle connection with a subscription (logarithmic)", "bytes_each", "{:,.0f} bytes", True,
     ("mqtt, a subscription each", "stomp-ws, a subscription each", "mqtt-tls, a subscription each")),
    ("connect", "Connections a second, each with its subscription (logarithmic)", "per_s", "{:,.0f}/s", True,
     ("one topic for all", "a topic each, exact bindings")),
    ("fanin", "Publishes into a consumed queue: CPU of broker and gateway, seconds per million (logarithmic)", "cpu_us", "{:,.0f} s", True,
     ("MQTT QoS 1", "STOMP receipt over WebSocket", "HTTP POST")),
    ("latency", "Latency from end to end at 1,000 messages a second: p50", "p50_us", "{:,.0f} µs", False, ("1,000 messages/s",)),
)


def bars(results):
    """(heading, [(group, [(side, value, its text)])]) of each panel that there are results for; no more than three groups each."""
    for case, heading, key, form, is_log, whats in PANELS:
        rows = results.get(case, {}).get("rows", [])
        groups = []
        for what in whats:
            group = [(row["side"], row[key], form.format(row[key])) for row in rows if row["what"] == what and row.get(key, 0) > 0]
            if group and len(groups) < 3:
                groups.append((what, group))
        if groups:
            yield heading, is_log, groups


def length(value, values, is_log):
    """Of a bar, as a part of the room: a logarithmic scale begins a tenth below the smallest value."""
    if not is_log:
        return value / max(values)
    low, high = math.log10(min(values) / 2), math.log10(max(values))
    return (math.log10(value) - low) / (high - low) if high > low else 1


def picture_of(results):
    panels = list(bars(results))
    out, y = [], TOP
    for heading, is_log, groups in panels:
        values = [value for _, group in groups for _, value, _ in group]
        y += PANEL_HEAD
        out.append(f'<text class="panel" x="20" y="{y - 10}">{html.escape(heading)}</text>')
        for what, group in groups:
            out.append(f'<text class="group" x="20" y="{y + 12}">{html.escape(what)}</text>')
            y += GROUP_HEAD
            for side, value, text in group:
                own = side.startswith("Headgate")
                width = max(1, round((WIDTH - LABEL - VALUE) * length(value, values, is_log)))
                out.append(f'<text class="{"own-text" if own else "other"}" x="{LABEL - 10}" y="{y + 12}" text-anchor="end">{html.escape(side)}</text>')
                out.append(f'<rect class="{"own" if own else "bar"}" x="{LABEL}" y="{y}" width="{width}" height="{BAR}" rx="2"/>')
                out.append(f'<text class="{"own-text" if own else "other"}" x="{LABEL + width + 8}" y="{y + 12}">{html.escape(text)}</text>')
                y += BAR + GAP
            y += GAP
        y += PANEL_END
    height = y + 10
    notes = sorted({f"{r['date'][:10]}, {r['machine']['cores']} cores of {r['machine']['cpu']}" for r in results.values()})
    quick = "A QUICK RUN: small numbers, busy machine. " if any(r["quick"] for r in results.values()) else ""
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>Headgate beside RabbitMQ's plugins and mosquitto</title>", f"<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="6"/>',
        '<text class="title" x="20" y="30">Headgate beside RabbitMQ\'s plugins and mosquitto</text>',
        f'<text class="note" x="20" y="50">{html.escape(quick + "; ".join(notes[:2]))}</text>', *out, "</svg>"]) + "\n"
