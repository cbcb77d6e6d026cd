# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium by way of playwright-core: a script under tests/e2e/browser, run to its end."""
import json
import pathlib
import subprocess

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "browser"


def run(script, limit_s=90, **args):
    """Runs browser/SCRIPT.mjs with args as its JSON argument; returns the JSON that it prints as its last line."""
    done = subprocess.run(["node", str(FOLDER / f"{script}.mjs"), json.dumps(args)], capture_output=True, text=True,
                          timeout=limit_s, check=False)
    if done.returncode != 0:
        raise AssertionError(f"browser/{script}.mjs failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout.splitlines()[-1])
