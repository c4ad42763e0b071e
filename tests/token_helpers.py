"""A token service for a registry: the second half of how public registries let people in.

registry says 401 and where -> Basic credentials there -> a signed token -> registry
"""

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


@contextmanager
def tokens(folder: Path, user: str, password: str) -> Iterator[dict[str, Any]]:
    """Serve tokens to one user; gives the section `auth` of the registry's configuration."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=tests"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != wanted:
                self.send_error(401)
                return
            scopes = parse_qs(urlsplit(self.path).query).get("scope", [])
            body = json.dumps({"token": _token(key, certificate, scopes)}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        realm = f"http://127.0.0.1:{http.server_port}/token"
        named = {"service": "tests", "issuer": "tests", "rootcertbundle": str(certificate)}
        yield {"token": {"realm": realm, **named}}
        http.shutdown()


def _token(key: Path, certificate: Path, scopes: list[str]) -> str:
    """A JSON web token for the repositories that were asked for, to read and write: oras asks only once."""
    now = int(time.time())
    names = [scope.split(":")[1] for text in scopes for scope in text.split(" ")]
    access = [{"type": "repository", "name": name, "actions": ["pull", "push"]} for name in names]
    claims = {"iss": "tests", "sub": "tests", "aud": "tests", "nbf": now - 60, "iat": now, "exp": now + 600}
    der = "".join(certificate.read_text().splitlines()[1:-1])
    head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
    signed = ".".join(_base64(json.dumps(part).encode()) for part in (head, claims | {"access": access}))
    sign = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signature = subprocess.run(sign, input=signed.encode(), capture_output=True, check=True).stdout
    return f"{signed}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
