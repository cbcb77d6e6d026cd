# SPDX-License-Identifier: Apache-2.0
"""JSON Web Tokens, made with the standard library and the openssl command."""
import base64
import hashlib
import hmac
import json
import os
import pathlib
import subprocess
import tempfile
import time


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def der_to_raw(der):
    """An ECDSA signature's R and S behind each other, 32 bytes each."""
    numbers, at = [], 2
    for _ in range(2):
        n = der[at + 1]
        numbers.append(int.from_bytes(der[at + 2:at + 2 + n], "big").to_bytes(32, "big"))
        at += 2 + n
    return b"".join(numbers)


class Issuer:
    """Has a key of each kind; `secret`, `rsa`, `ec` are files for the gateway."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="headgate-tokens-")
        self.path = pathlib.Path(self.folder.name)
        self.key = os.urandom(32).hex().encode()
        self.secret = str(self.path / "secret")
        pathlib.Path(self.secret).write_bytes(self.key + b"\n")
        self.openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "rsa.key")
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "ec.key")
        for kind in ("rsa", "ec"):
            self.openssl("pkey", "-in", f"{kind}.key", "-pubout", "-out", f"{kind}.pem")
        self.rsa, self.ec = (str(self.path / f"{kind}.pem") for kind in ("rsa", "ec"))

    def openssl(self, *args, data=None):
        return subprocess.run(["openssl", *args], cwd=self.path, input=data, check=True, capture_output=True).stdout

    def sign(self, algorithm, text, key=None):
        if algorithm == "HS256":
            return hmac.new(key or self.key, text, hashlib.sha256).digest()
        if algorithm == "none":
            return b""
        signature = self.openssl("dgst", "-sha256", "-sign", "rsa.key" if algorithm == "RS256" else "ec.key", data=text)
        return signature if algorithm == "RS256" else der_to_raw(signature)

    def token(self, user="carol", lasts_s=300, algorithm="HS256", key=None, header=None, **claims):
        head = {"alg": algorithm, "typ": "JWT", **(header or {})}
        body = {"sub": user, "exp": time.time() + lasts_s, "aud": "headgate", **claims}
        text = ".".join(b64(json.dumps({k: v for k, v in part.items() if v is not None}).encode()) for part in (head, body))
        return text + "." + b64(self.sign(algorithm, text.encode(), key))

    def close(self):
        self.folder.cleanup()
