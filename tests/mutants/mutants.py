# SPDX-License-Identifier: Apache-2.0
"""Patches that break one behaviour each, and the tests that must notice. A patch is a unified diff with two lines in front:

    Breaks: PUBACK is sent before RabbitMQ has confirmed
    Test: mqtt_conformance_flow_test.Inbound.test_puback_comes_when_rabbitmq_has_the_message
"""
import os
import pathlib
import subprocess

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]


class Mutant:
    def __init__(self, path):
        self.path = path
        self.name = path.stem
        head = path.read_text(encoding="utf-8").partition("\n--- ")[0].splitlines()
        self.breaks = self.line(head, "Breaks: ")[0]
        self.tests = self.line(head, "Test: ")

    @staticmethod
    def line(head, key):
        found = [line.removeprefix(key) for line in head if line.startswith(key)]
        if not found:
            raise ValueError(f"a patch without a line {key}…")
        return found

    def git_apply(self, *options, root=ROOT):
        """None, or what git says against it. Paths are those of root, be it a repository or within one; a line of context is enough."""
        done = subprocess.run(["git", "apply", "-C1", *options, str(self.path)], cwd=root, capture_output=True, text=True, check=False,
                              env={**os.environ, "GIT_CEILING_DIRECTORIES": str(root.parent)})
        return done.stderr if done.returncode else None


def everyone():
    return [Mutant(path) for path in sorted(FOLDER.glob("*.patch"))]
