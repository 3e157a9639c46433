"""A server that speaks like S3, on this machine, for tests; it can be away for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
from moto.server import ThreadedMotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class Server:
    """A running server.

    Attributes:
        port: its port on 127.0.0.1.
    """

    port: int
    _server: ThreadedMotoServer

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 finds it."""
        return {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}"}

    def new_bucket(self, name: str) -> str:
        """Create an empty bucket and return its URL."""
        self._client.create_bucket(Bucket=name)
        return f"s3://{name}"

    def keys(self, bucket: str) -> list[str]:
        """Return the keys of everything in a bucket."""
        answer = self._client.list_objects_v2(Bucket=bucket)
        return sorted(entry["Key"] for entry in answer.get("Contents", ()))

    @property
    def _client(self) -> boto3.client:
        return boto3.client(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            region_name=KEYS["AWS_DEFAULT_REGION"],
        )

    def stop(self) -> None:
        """Refuse connections from now on; what it holds stays."""
        self._server.stop()

    def start(self) -> None:
        """Answer again, with all that it held."""
        self._server = ThreadedMotoServer("127.0.0.1", self.port, verbose=False)
        self._server.start()


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server, and stop it after the block."""
    threaded = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    threaded.start()
    server = Server(threaded.get_host_and_port()[1], threaded)
    try:
        yield server
    finally:
        server.stop()
