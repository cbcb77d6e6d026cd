# SPDX-License-Identifier: Apache-2.0
"""Users with passwords: what a gateway's file, and their own requests, say of them."""
import base64
import subprocess

from . import gateway
from .wait import LIMIT_S

PASSWORD, OTHER = "correct horse", "battery staple"
# Whoever comes in may do everything, as if nobody had to.
EVERYTHING = """
[[rule]]
name = "everything"
topic = "{path...}"
exchange = "amq.topic"
key = "{path...}"
escape = "plain"
allow = { publish = ["*"], subscribe = ["*"] }
[[access]]
exchange = "amq.topic"
publish = ["*"]
subscribe = ["*"]
"""


def line_of(password):
    """What `headgate passwd` prints for it."""
    return subprocess.run([gateway.BINARY, "passwd"], input=password + "\n", capture_output=True, text=True, check=True,
                          timeout=LIMIT_S).stdout.strip()


def user(name, line=None, *roles, more=""):
    """A [[user]]; line: its password's line_of, None for who shows something else."""
    password = "" if line is None else f'password = "{line}"\n'
    named = ", ".join(f'"{role}"' for role in roles)
    return f'[[user]]\nname = "{name}"\n{password}roles = [{named}]\n{more}\n'


def basic(name, password=PASSWORD):
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def bearer(token):
    return {"Authorization": f"Bearer {token}"}
