# SPDX-License-Identifier: Apache-2.0
"""The load generators, which are C programs: they do a run for each line that they are sent, and answer each with one of JSON."""
import json
import subprocess


class Program:
    """A program of tests/bench, ended with its standard input when the `with` is left. Options are given as `window=8`."""

    def __init__(self, programs, name, mode, **options):
        words = [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), str(value))]
        self.name = f"{name} {mode} {' '.join(words)}"
        self.process = subprocess.Popen([str(programs / name), mode, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            self.process.kill()
        said = self.process.communicate()[1].strip()
        if kind is None and self.process.returncode != 0:
            raise RuntimeError(f"{self.name}: {said or self.process.returncode}")

    def row(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: {self.process.stderr.read().strip() or 'ended'}")
        return json.loads(line)

    def run(self, seconds=0, messages=0):
        self.process.stdin.write(f"{seconds} {messages}\n")
        self.process.stdin.flush()
        return self.row()

    def finish(self):
        """Ends its input; what it says last."""
        self.process.stdin.close()
        self.process.stdin = None
        return self.row()


def load(bench, server, mode, wire, **options):
    """The load generator, once it is connected: its first row is `ready`."""
    program = Program(bench.programs, "load", mode, wire=wire, port=server.ports[wire], **options)
    try:
        program.ready = program.row()
    except RuntimeError as e:
        program.__exit__(RuntimeError)
        raise RuntimeError(f"{type(server).__name__}: {e}") from None
    return program


def direct(bench, broker, mode, **options):
    return Program(bench.programs, "amqp_direct", mode, port=broker.port, **options)


def rows_of(bench, name, **options):
    """All rows of a program that ends by itself."""
    words = [word for key, value in options.items() for word in ("--" + key.replace("_", "-"), str(value))]
    done = subprocess.run([str(bench.programs / name), *words], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{name}: {done.stderr.strip()}")
    return [json.loads(line) for line in done.stdout.splitlines()]
