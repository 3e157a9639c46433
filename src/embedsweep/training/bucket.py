"""Folders of files in a bucket of S3, or of a server that speaks like it. boto3 is imported where it is needed.

Keys, region and server come from where boto3 takes them: the environment, its files, or the machine's role.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from embedsweep.config.checkpoints import is_plain, split_url, url_problem
from embedsweep.errors import BucketError, first_line
from embedsweep.secrets import redact

CONNECT_S, READ_S, TRIES = 5, 30, 3
PART_BYTES = 64 << 20
"""Larger files are sent in parts of this size, which become the file at the end, in one step."""

DELETED_AT_ONCE = 1000
"""The most keys that S3 deletes in one call."""


def problem(url: str) -> str | None:
    """Return why checkpoints cannot be kept in a place from this machine; None if they can: a small file is written.

    Args:
        url: ``study.checkpoints``.
    """
    if (wrong := url_problem(url)) is not None:
        return wrong
    if find_spec("boto3") is None:
        return "needs the Python package boto3: pip install 'embedsweep[s3]'"
    bucket = Bucket(url)
    trial = f"access-{uuid.uuid4().hex[:8]}"
    try:
        bucket.put_text(trial, "embedsweep checks whether it can write here")
        bucket.delete(trial)
    except BucketError as error:
        return str(error)
    return None


class Bucket:
    """The files below a place in a bucket.

    Every method raises BucketError if the bucket does not answer or refuses it; those that read do not if nothing is
    there.

    Args:
        url: ``s3://bucket/prefix``.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._name, self._prefix = split_url(url)

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        # Servers other than Amazon's may not know the checksums that boto3 adds by default.
        config = Config(
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            retries={"mode": "standard", "max_attempts": TRIES},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        # A session of its own: the default one must not be made by two threads at once.
        return boto3.session.Session().client("s3", config=config)

    def put(self, folder: Path, key: str, last: str) -> None:
        """Send all files of a folder.

        Args:
            folder: the folder, which must not change meanwhile.
            key: the folder below this place.
            last: the name of the file that is sent when all others are there.
        """
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / last]
        for path in (*paths, folder / last):
            self.put_file(path, f"{key}/{path.relative_to(folder).as_posix()}")

    def put_file(self, path: Path, key: str, alive: Callable[[], None] = lambda: None) -> None:
        """Send a file, which is there whole or not at all.

        Args:
            path: the file, which must not change meanwhile.
            key: its name below this place.
            alive: is called whenever a part of it was sent, from another thread.
        """
        from boto3.s3.transfer import TransferConfig

        parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=4)
        with self._errors():
            self._client.upload_file(str(path), self._name, self._key(key), Config=parts, Callback=lambda _: alive())

    def put_text(self, key: str, text: str) -> None:
        """Write a small file, in one step."""
        with self._errors():
            self._client.put_object(Bucket=self._name, Key=self._key(key), Body=text.encode())

    def text(self, key: str) -> str | None:
        """Return the content of a small file; None without it."""
        with self._errors():
            try:
                answer = self._client.get_object(Bucket=self._name, Key=self._key(key))
            except self._client.exceptions.NoSuchKey:
                return None
            return bytes(answer["Body"].read()).decode()

    def fetch(self, key: str, folder: Path) -> None:
        """Write all files below a key into a folder; none if there are none."""
        start = self._key(f"{key}/")
        with self._errors():
            for each in self._keys(start):
                if not is_plain(name := each.removeprefix(start)):
                    raise BucketError(f"{self.url}: {each!r} is no name of a file in a folder: delete it there")
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                self._client.download_file(self._name, each, str(path))

    def has(self, key: str) -> bool:
        """Return whether there is a file."""
        with self._errors():
            return self._if_there(lambda: self._client.head_object(Bucket=self._name, Key=self._key(key)))

    def fetch_file(self, key: str, path: Path, alive: Callable[[], None] = lambda: None) -> bool:
        """Write a file to a path, in a folder that exists; return whether it is there.

        Args:
            key: its name below this place.
            path: where it is written.
            alive: is called whenever a part of it has come, from another thread.
        """
        with self._errors():
            return self._if_there(
                lambda: self._client.download_file(self._name, self._key(key), str(path), Callback=lambda _: alive())
            )

    def _if_there(self, act: Callable[[], object]) -> bool:
        """Act on a file; return whether it is there."""
        from botocore.exceptions import ClientError

        try:
            act()
        except ClientError as error:
            if str(error.response.get("Error", {}).get("Code", "")) in ("404", "NoSuchKey"):
                return False
            raise
        return True

    def children(self, key: str) -> list[str]:
        """Return the names of the folders directly below a key; below the place itself for an empty one."""
        start = self._start(key)
        with self._errors():
            found = [entry["Prefix"] for page in self._directly(start) for entry in page.get("CommonPrefixes", ())]
        return [each.removeprefix(start).rstrip("/") for each in found]

    def names(self, key: str) -> list[str]:
        """Return the names of the files directly below a key; below the place itself for an empty one."""
        start = self._start(key)
        with self._errors():
            found = [entry["Key"] for page in self._directly(start) for entry in page.get("Contents", ())]
        return [each.removeprefix(start) for each in found]

    def delete(self, key: str, keep: Callable[[str], bool] = lambda _: False) -> None:
        """Delete a file, or all files below a key, and the parts of those that were never completed.

        Args:
            key: the file or folder.
            keep: returns whether a file stays, by its name below the key.
        """
        start = self._key(key)
        with self._errors():
            found = [each for each in self._keys(start) if _is_below(each, start)]
            gone = [each for each in found if not keep(each.removeprefix(start).lstrip("/"))]
            for at in range(0, len(gone), DELETED_AT_ONCE):
                objects = [{"Key": each} for each in gone[at : at + DELETED_AT_ONCE]]
                self._client.delete_objects(Bucket=self._name, Delete={"Objects": objects, "Quiet": True})
        with suppress(BucketError), self._errors():  # not every server has these, and not every key may list them
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._name, Prefix=start)
            for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                key, number = upload["Key"], upload["UploadId"]
                if _is_below(key, start) and not keep(key.removeprefix(start).lstrip("/")):
                    self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=number)

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _start(self, key: str) -> str:
        """Return how the keys of all files in a folder begin; an empty one is the place itself."""
        return self._key(f"{key}/") if key else self._key("")

    def _directly(self, start: str) -> Iterator[Any]:
        """Return the pages of S3's list of the files and folders directly in a folder."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=start, Delimiter="/")
        return iter(pages)

    def _keys(self, start: str) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=start)
        return (entry["Key"] for page in pages for entry in page.get("Contents", ()))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what boto3 raises in the block into a BucketError with what to do."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError
        from s3transfer.exceptions import S3DownloadFailedError

        try:
            yield
        # ValueError is of an endpoint's URL.
        except (Boto3Error, BotoCoreError, ClientError, S3DownloadFailedError, ValueError) as error:
            raise BucketError(f"{self.url}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        from botocore import exceptions
        from botocore.exceptions import ClientError

        text = redact(first_line(error))
        if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
            return "there are no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
            return f"does not answer ({text}); AWS_ENDPOINT_URL names a server other than Amazon's"
        code = str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else text
        if "NoSuchBucket" in code:
            return f"there is no bucket {self._name}: create it, or name another"
        if code in ("403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"):
            return f"the keys are refused ({text}): they must list the bucket, and read, write and delete below it"
        return text


def _is_below(key: str, start: str) -> bool:
    """Return whether a key is a file or folder itself, or lies in it; not one whose name only begins alike."""
    return key == start or key.startswith(f"{start.rstrip('/')}/")
