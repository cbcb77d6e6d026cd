#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of one's own: loopback only, free ports, everything it writes in one folder, ended with whoever started it.

As a program: private_rabbitmq.py FOLDER [--port N]. Prints its AMQP address when it is ready and runs until SIGTERM. As a module: `with PrivateRabbitMQ(folder) as broker:`, used by the end-to-end tests; PrivateCluster is several of them as one cluster.
"""
import argparse
import concurrent.futures
import ctypes
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import sys
import time

BIN = pathlib.Path("/usr/lib/rabbitmq/bin")  # the plain scripts: those in /usr/sbin are for the system's service
START_SECONDS = 120  # only a limit: a start is over when RabbitMQ says so


def free_ports(n):
    """n TCP ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class PrivateRabbitMQ:
    def __init__(self, folder, port=None, plugins=(), settings=()):
        self.folder = pathlib.Path(folder).resolve()
        chosen, self.epmd_port, self.dist_port = free_ports(3)
        self.port = port or chosen
        self.plugins = plugins
        self.settings = settings  # further lines of rabbitmq.conf
        self.node = f"headgate-{self.folder.name}@localhost"
        self.server = None
        self.epmd = None

    @property
    def url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2f"

    def environment(self):
        f = self.folder
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG": "C.UTF-8",
            "HOME": str(f),  # the Erlang cookie
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_INETRC": str(f / "inetrc"),
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_CONF_ENV_FILE": str(f / "none"),
            "RABBITMQ_CONFIG_FILE": str(f / "rabbitmq.conf"),
            "RABBITMQ_CONFIG_FILES": str(f / "none"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(f / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(f / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(f / "data"),
            "RABBITMQ_LOG_BASE": str(f / "log"),
            "RABBITMQ_PID_FILE": str(f / "pid"),
            # Two schedulers that do not spin while idle: it shares the machine with what is tested.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS":
                "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def write_files(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = [
            f"listeners.tcp.1 = 127.0.0.1:{self.port}",
            "log.console = true",
            "log.console.level = info",
            "log.file.level = info",
            "disk_free_limit.absolute = 50MB",
            *self.settings,
        ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(settings) + "\n")
        (self.folder / "advanced.config").write_text("[].\n")
        # What localhost is, whatever /etc/hosts says or whether there is one.
        (self.folder / "inetrc").write_text('{host, {127,0,0,1}, ["localhost"]}.\n{lookup, [file, native]}.\n')
        (self.folder / "enabled_plugins").write_text("[" + ",".join(self.plugins) + "].\n")

    def start(self):
        if not BIN.is_dir():
            raise RuntimeError("RabbitMQ is not installed; scripts/setup does that")
        self.write_files()
        env = self.environment()
        self.epmd = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)], env=env,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.boot()
        return self

    def boot(self):
        """Starts the server itself, from what its folder holds; for a restart under a running test."""
        self.server = subprocess.Popen(
            [str(BIN / "rabbitmq-server"), "-noinput"], env=self.environment(), cwd=self.folder,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        with open(self.folder / "output", "wb") as output:
            self.wait_until_ready(output)
        # From now on nobody reads; the file log has it all.
        self.drain = subprocess.Popen(["cat"], stdin=self.server.stdout, stdout=subprocess.DEVNULL,
                                      start_new_session=True)
        self.server.stdout.close()

    def wait_until_ready(self, output):
        deadline = time.monotonic() + START_SECONDS
        seen = b""
        while b"Server startup complete" not in seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.server.stdout], [], [], left)[0]:
                self.stop()
                raise RuntimeError(f"RabbitMQ did not start within {START_SECONDS} s, see {output.name}")
            piece = os.read(self.server.stdout.fileno(), 65536)
            output.write(piece)
            seen += piece
            if not piece:
                self.stop()
                raise RuntimeError("RabbitMQ did not start:\n" + seen.decode(errors="replace")[-4000:])

    def ctl(self, *args, timeout=60):
        """Runs rabbitmqctl against it and returns what it prints."""
        done = subprocess.run([str(BIN / "rabbitmqctl"), "-q", "-n", self.node, *args], env=self.environment(),
                              cwd=self.folder, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"rabbitmqctl {' '.join(args)}: {done.stdout}{done.stderr}")
        return done.stdout

    def eval(self, expressions):
        """Evaluates Erlang expressions ("f(), g().") in it; a thousand times quicker than rabbitmqctl, which starts an Erlang
        machine to ask."""
        cookie = (self.folder / ".erlang.cookie").read_text()
        done = subprocess.run(["erl_call", "-c", cookie, "-sname", self.node, "-e"], env=self.environment(), input=expressions + "\n",
                              capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0 or not done.stdout.startswith("{ok, "):
            raise RuntimeError(f"{expressions}: {done.stdout}{done.stderr}")
        return done.stdout.removeprefix("{ok, ").removesuffix("}")

    def halt(self, kill=False):
        """Ends the server, not its epmd."""
        if self.server is not None and self.server.poll() is None:
            # rabbitmq-server is a shell that waits for the Erlang machine: both are in a group of their own.
            os.killpg(self.server.pid, signal.SIGKILL if kill else signal.SIGTERM)
            try:
                self.server.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(self.server.pid, signal.SIGKILL)
                self.server.wait()
        self.server = None

    def stop(self):
        self.halt()
        if self.epmd is not None:
            self.epmd.terminate()
            self.epmd.wait()
            self.epmd = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()


class ClusterNode(PrivateRabbitMQ):
    """One of a cluster: an epmd and a cookie for all, and a limit to the silence after which a node is down for the others."""
    COOKIE = "HEADGATEPRIVATECLUSTER"

    def __init__(self, folder, epmd_port, tick_s, settings=()):
        super().__init__(folder, settings=settings)
        self.epmd_port = epmd_port
        self.tick_s = tick_s

    def environment(self):
        env = super().environment()
        env["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += f" -kernel net_ticktime {self.tick_s}"
        return env

    def write_files(self):
        super().write_files()
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(self.COOKIE)
            cookie.chmod(0o400)


class PrivateCluster:
    """`with PrivateCluster(folder, n) as cluster`: the servers are its `nodes`."""

    def __init__(self, folder, nodes_n, tick_s=60, settings=(), node=ClusterNode):
        self.folder = pathlib.Path(folder)
        self.epmd_port, = free_ports(1)
        self.nodes = [node(self.folder / f"{self.folder.name[-4:]}-{i}", self.epmd_port, tick_s, settings) for i in range(nodes_n)]
        self.epmd = None

    def each(self, work, nodes):
        with concurrent.futures.ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(work, nodes))

    def __enter__(self):
        self.epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            for node in self.nodes:
                node.write_files()
            self.each(lambda node: node.boot(), self.nodes)
            for node in self.nodes[1:]:
                node.ctl("stop_app")
                node.ctl("join_cluster", self.nodes[0].node)
                node.ctl("start_app")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.each(lambda node: node.halt(kill=True), self.nodes)
        self.epmd.terminate()
        self.epmd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--port", type=int)
    parser.add_argument("--fresh", action="store_true", help="forget what the folder holds")
    args = parser.parse_args()
    if args.fresh:
        shutil.rmtree(args.folder, ignore_errors=True)
    broker = PrivateRabbitMQ(args.folder, args.port)

    def end(*_):
        for each in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        sys.exit(0)  # by way of `finally`

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGHUP, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway first; whoever started this ends it
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: whoever started this may be killed
    try:
        print(broker.start().url, flush=True)
        while True:
            signal.pause()
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
