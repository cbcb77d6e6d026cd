# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, where, and how it exits."""
import pathlib
import subprocess

from harness import E2E, gateway, headgate

SHIPPED = pathlib.Path(__file__).resolve().parents[2] / "config" / "headgate.toml"
LISTENER = '[[listener]]\nserve = "mqtt"\nbind = "127.0.0.1:0"\n'


class CommandLine(E2E):
    needs_broker = False
    also_on_release = True

    def assert_refused(self, done, text):
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn(text, done.stderr)

    def test_help_goes_to_standard_output_and_usage_errors_do_not(self):
        for args in (["--help"], ["help"], ["run", "--help"], ["check", "-h"]):
            done = headgate(*args)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("usage: headgate run", done.stdout)
        self.assert_refused(headgate(), "usage: headgate run")
        self.assert_refused(headgate("serve"), "unknown command serve")
        self.assert_refused(headgate("check"), "no configuration (-c FILE) for check")
        self.assert_refused(headgate("run", "-c"), "no value for -c")
        self.assert_refused(headgate("check", "-c", SHIPPED, "--sett", "a=b"), "unknown option --sett")
        self.assert_refused(headgate("check", "-c", SHIPPED, "more"), "unexpected argument more")
        self.assert_refused(headgate("check", "-c", SHIPPED, "--json"), "--json")

    def test_version_names_every_library(self):
        done = headgate("version")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        names = [line.split()[0] for line in done.stdout.splitlines()]
        self.assertEqual(names, ["headgate", "libuv", "librabbitmq", "libmosquitto", "libcrypto", "libsodium", "jansson", "llhttp", "wslay",
                                 "toml++", "compiler", "build"])

    def test_a_full_disk_is_a_problem_while_running(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([gateway.BINARY, "version"], stdout=full, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"No space left on device", done.stderr)


class Check(E2E):
    needs_broker = False

    def test_the_shipped_file_is_fine_and_each_rule_shows_its_mode(self):
        done = headgate("check", "-c", SHIPPED)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn(": fine\n", done.stdout)
        rules = [line for line in done.stdout.splitlines() if line.startswith("rule ")]
        self.assertEqual([line.split(":")[0] for line in rules], ["rule chat", "rule sensors", "rule orders", "rule built-in"])
        self.assertTrue(all("lossless" in rule for rule in rules[:3]), rules)
        self.assertIn("plain", rules[3])

    def test_every_problem_comes_with_its_place(self):
        file = self.config_file('[gateway]\nworkres = 1\n' + LISTENER + '[rabbitmq]\nheartbeat = "soon"\nbuffer = "1KiB"\n')
        done = headgate("check", "-c", file)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr.splitlines(), [
            f'{file}:2:1: unknown key "workres", did you mean "workers"?',
            f'{file}:7:13: heartbeat must be a duration such as "20s" (units ms, s, m, h)',
            f'{file}:8:10: buffer must be between 64KiB and 64GiB',
        ])

    def test_a_syntax_error_comes_with_its_place(self):
        file = self.config_file(LISTENER + "[gateway]\nname = \n")
        done = headgate("check", "-c", file)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rf"^{file}:5:\d+: ")

    def test_a_file_that_is_not_there_is_named(self):
        done = headgate("check", "-c", "/no/such/file.toml")
        self.assertEqual((done.returncode, done.stderr),
                         (1, "/no/such/file.toml:1:1: cannot be read: No such file or directory\n"))

    def test_the_environment_and_overrides_are_read(self):
        file = self.config_file('[gateway]\nname = "${HEADGATE_TEST_NAME}"\n' + LISTENER)
        done = headgate("check", "-c", file, "--set", "gateway.workers=3", "--set", 'listener.0.bind="[::1]:77"',
                        env={"HEADGATE_TEST_NAME": "from outside"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("gateway from outside, 3 workers\nlistener mqtt on [::1]:77\n", done.stdout)
        done = headgate("check", "-c", file)
        self.assertEqual((done.returncode, done.stderr),
                         (1, f"{file}:2:8: the environment variable HEADGATE_TEST_NAME is not set\n"))

    def test_no_password_is_shown(self):
        url = "amqp://joe:s3cret-word@127.0.0.1:5672/%2f"
        for endpoint, code in ((url, 0), (url + "?auth=nonsense", 1), (url.replace("127.0.0.1", "["), 1)):
            file = self.config_file(f'{LISTENER}[rabbitmq]\nendpoints = ["{endpoint}"]\n')
            done = headgate("check", "-c", file)
            self.assertEqual(done.returncode, code)
            self.assertNotIn("s3cret-word", done.stdout + done.stderr)
