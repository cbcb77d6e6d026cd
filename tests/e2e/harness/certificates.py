# SPDX-License-Identifier: Apache-2.0
"""Certificates for a test, made by openssl."""
import pathlib
import ssl
import subprocess
import tempfile

KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Authority:
    """Signs what make() asks for; `ca` is its own certificate's file."""

    def __init__(self, name="test authority"):
        self.folder = tempfile.TemporaryDirectory(prefix="headgate-tls-")
        self.path = pathlib.Path(self.folder.name)
        self.path.chmod(0o755)  # RabbitMQ and mosquitto may run as somebody else
        self.ca = str(self.path / "ca.crt")
        self.openssl("req", "-x509", *KEY, "-keyout", "ca.key", "-out", "ca.crt", "-subj", f"/CN={name}", "-days", "2")

    def openssl(self, *args):
        subprocess.run(["openssl", *args], cwd=self.path, check=True, capture_output=True)

    def make(self, name, *alternatives, key=KEY):
        """The files of a certificate for `name` and of its key; alternatives: "DNS:…", "IP:…"."""
        self.openssl("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (self.path / f"{name}.ext").write_text("subjectAltName=" + ",".join(alternatives or (f"DNS:{name}",)) + "\n")
        self.openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", f"{name}.crt",
                     "-days", "2", "-extfile", f"{name}.ext")
        (self.path / f"{name}.key").chmod(0o644)
        return str(self.path / f"{name}.crt"), str(self.path / f"{name}.key")

    def client(self, *pair, version=None):
        """An ssl.SSLContext that trusts this authority, with a certificate of its own if `pair` is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if version:
            context.minimum_version = context.maximum_version = version
        if pair:
            context.load_cert_chain(*pair)
        return context

    def close(self):
        self.folder.cleanup()
