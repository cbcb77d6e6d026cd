# SPDX-License-Identifier: Apache-2.0
"""What can be said about the source without running it: format, layers, names, licence lines."""
import os
import pathlib
import re
import subprocess
import unittest

C = (".c", ".h", ".cc")
ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED_FOLDERS = re.compile(r"^(\.git|\.run|build.*|node_modules|__pycache__|corpus|public)$")
FORMAT_VERSION = 14
SOURCE_LINES_MAX, HEADER_LINES_MAX = 800, 200

# Each folder of src and what it may include besides itself; a file named alone has its own list.
BASE = []
MESSAGE = ["base"]
AMQP = [*MESSAGE, "message"]
STREAM = ["base"]
RULES = [*MESSAGE, "message"]
UPSTREAM = ["base", "message", "amqp", "stream", "rules"]
CORE = [*UPSTREAM, "upstream"]
CODEC = ["base", "message"]
ADAPTER = [*CORE, "core"]
LAYERS = {
    "gateway/base": BASE,
    "gateway/message": MESSAGE,
    "gateway/amqp": AMQP,
    "gateway/stream": STREAM,
    "gateway/rules": RULES,
    "gateway/upstream": UPSTREAM,
    "gateway/core": CORE,
    "gateway": [*CORE, "core", "adapters"],
    "adapters/bridge": ADAPTER,
    "adapters/mqtt": ADAPTER,
    "adapters/stomp": ADAPTER,
    "adapters/http": ADAPTER,
    "adapters/admin": [*ADAPTER, "adapters/http"],
    "adapters/webhook": [*ADAPTER, "adapters/http"],
    "adapters": [*ADAPTER, "adapters"],
}
CODECS = re.compile(r"adapters/(\w+/\w+_(codec|encode|uri|props|property|reason|dest|inflow)|stomp/stomp_message)\.[ch]$")
# Which folder or file may see a library's headers; the others have what they need from us.
LIBRARIES = {
    "uv.h": ["gateway/stream", "gateway/upstream", "gateway/core", "gateway/version.c", "adapters/bridge/bridge_site.c"],
    "wslay/": ["gateway/stream", "gateway/version.c"],
    "amqp.h": ["gateway/amqp", "gateway/version.c"],
    "amqp_framing.h": ["gateway/amqp"],
    "mosquitto.h": ["gateway/message/topic.c", "gateway/version.c", "adapters/mqtt/mqtt_property.c", "adapters/bridge"],
    "mqtt_protocol.h": ["gateway/message/topic.c", "adapters/bridge"],
    "curl/": ["adapters/webhook/webhook_client.c"],
    "llhttp.h": ["adapters/http", "gateway/version.c"],
    "sodium.h": ["gateway/core/password.c", "gateway/core/login.c", "gateway/version.c"],
    "toml++/": ["gateway/core/config_toml.cc"],
}
INCLUDE = re.compile(r'^#\s*include\s+(["<])([^">]+)[">]', re.M)
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
EXIT_CALL = re.compile(r"\b(exit|_exit|quick_exit)\s*\(")
# Of what we are asked to leave: allocation goes by base/mem.h, text by hg_writer.
RAW_CALLS = re.compile(r"(?<![\w.>])(malloc|calloc|realloc|free|strdup|strndup|sprintf|strcpy|strcat|gets|atoi|rand)\s*\(")



def sources(*suffixes, under="."):
    """Paths from the root, those included that nobody has committed yet."""
    for folder, folders, files in os.walk(ROOT / under):
        folders[:] = sorted(f for f in folders if not SKIPPED_FOLDERS.match(f))
        for file in sorted(files):
            if file.endswith(suffixes):
                yield str((pathlib.Path(folder) / file).relative_to(ROOT))


def text_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def layer_of(path):
    folder = str(pathlib.PurePath(path).parent.relative_to("src"))
    return folder if folder in LAYERS else None


class Lint(unittest.TestCase):
    maxDiff = None

    def assert_no(self, problems):
        self.assertEqual(problems, [], "\n" + "\n".join(problems))

    def test_sources_are_formatted(self):
        version = subprocess.run(["clang-format", "--version"], capture_output=True, text=True, check=True).stdout
        if f"version {FORMAT_VERSION}." not in version:
            self.skipTest(f"needs clang-format {FORMAT_VERSION}: others differ")
        files = sources(*C)
        done = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True,
                              check=False)
        self.assert_no(sorted({line.split(": error")[0] for line in done.stderr.splitlines() if ": error" in line}))

    def test_a_folder_includes_only_what_lies_below_it(self):
        problems = []
        for path in sources(*C, under="src"):
            layer = layer_of(path)
            if layer is None:
                problems.append(f"{path}: its folder is in no layer")
                continue
            allowed = CODEC if CODECS.search(path) else LAYERS[layer]
            own = layer.removeprefix("gateway/")
            text = text_of(path)
            for match in INCLUDE.finditer(text):
                if match.group(1) != '"':
                    continue
                target = match.group(2)
                folder = target.rpartition("/")[0] or layer
                is_own = folder in (own, layer)
                is_ours = is_own or any(folder == a or folder.startswith(a + "/") for a in allowed)
                if not is_ours:
                    problems.append(f"{path}:{line_of(text, match.start())}: {own} must not include {target}")
        self.assert_no(problems)

    def test_a_library_is_seen_only_where_it_is_wrapped(self):
        problems = []
        for path in sources(*C, under="src"):
            text = text_of(path)
            for match in INCLUDE.finditer(text):
                for library, places in LIBRARIES.items():
                    target = match.group(2)
                    is_it = target.startswith(library) if library.endswith("/") else target == library
                    if is_it and not any(path == f"src/{p}" or path.startswith(f"src/{p}/") for p in places):
                        problems.append(f"{path}:{line_of(text, match.start())}: {target} belongs to {', '.join(places)}")
        self.assert_no(problems)

    def test_every_source_begins_with_its_licence(self):
        problems = []
        for path in sources(*C, ".py", ".mjs", ".js", ".html", ".css", ".toml", "meson.build"):
            if "SPDX-License-Identifier: Apache-2.0" not in "\n".join(text_of(path).splitlines()[:3]):
                problems.append(path)
        self.assert_no(problems)

    def test_nothing_is_left_for_later(self):
        problems = []
        for path in sources(*C, "meson.build", ".toml", ".md"):
            for number, line in enumerate(text_of(path).splitlines(), 1):
                if UNFINISHED.search(line):
                    problems.append(f"{path}:{number}: {line.strip()}")
        self.assert_no(problems)

    def test_memory_comes_from_the_seam_and_only_main_ends_the_process(self):
        problems = []
        for path in sources(".c", ".h", under="src"):
            code = without_comments(text_of(path))
            for pattern, exempt in ((RAW_CALLS, "src/gateway/base/mem.c"), (EXIT_CALL, "src/gateway/main.c")):
                for match in pattern.finditer(code):
                    if path != exempt:
                        problems.append(f"{path}:{line_of(code, match.start())}: {match.group(1)}()")
        self.assert_no(problems)

    def test_no_file_outgrows_its_reader(self):
        problems = []
        for path in sources(*C, under="src"):
            limit = HEADER_LINES_MAX if path.endswith(".h") else SOURCE_LINES_MAX
            n = text_of(path).count("\n")
            if n > limit:
                problems.append(f"{path}: {n} lines, {limit} are the limit")
        self.assert_no(problems)


if __name__ == "__main__":
    unittest.main()
