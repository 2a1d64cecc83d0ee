"""An export in a bucket of Cloud Storage, read as a stream."""

from __future__ import annotations

import errno
import io
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from bulkup.core.errors import TargetError, UsageError
from bulkup.core.visible import visible

SCHEME = "gs://"
_CHUNK_BYTES = 4 << 20
"""Bytes per request. Google's client retries a failed request for two minutes."""
_TIMEOUT_S = 60
_SUFFIX = ".overall_export_metadata"


class _Listing(NamedTuple):
    blobs: list[Any]
    folders: list[str]


class BucketFolder:
    """The `Source` at `gs://BUCKET/FOLDER`, or at the address of an export's overall metadata.

    Raises UsageError if the address is not valid or bulkup[gcs] is not installed, TargetError
    without credentials. Its methods raise OSError if Cloud Storage refuses a request or cannot be
    reached.
    """

    def __init__(self, address: str) -> None:
        bucket, _, path = address.removeprefix(SCHEME).partition("/")
        if not bucket:
            raise UsageError(f"{visible(address)} is not an address; write gs://BUCKET/FOLDER")
        self._only = ""
        """The file that the address names; empty if it names a folder."""
        if path.endswith(_SUFFIX):
            path, _, self._only = path.rpartition("/")
        self._folder = path.strip("/") + "/" if path.strip("/") else ""
        self._address = f"{SCHEME}{bucket}/{self._folder}"
        self._client = _client(self._address)
        self._bucket = self._client.bucket(bucket)
        self._listed: dict[str, Any] = {}
        weakref.finalize(self, self._client.close)

    def find(self, suffix: str) -> list[str]:
        if self._only:
            return [self._only] if self._blob(self._only) is not None else []
        folders = [self._folder]
        for _ in range(2):
            found: list[str] = []
            inner: list[str] = []
            for folder in folders:
                listing = self._list(folder, delimiter="/")
                found += (blob.name for blob in listing.blobs if blob.name.endswith(suffix))
                inner += listing.folders
            if found:
                return sorted(map(self._relative, found))
            folders = sorted(inner)
        return []

    def size(self, name: str) -> int:
        return int(self._known(name).size)

    def stamp(self, name: str, *, now: bool = False) -> str:
        blob = self._blob(name) if now else self._known(name)
        if blob is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", self.shown(name))
        return str(blob.generation)

    def _known(self, name: str) -> Any:
        if name not in self._listed:
            # One request per thousand files, not one per file.
            part, _, _ = name.rpartition("/")
            for blob in self._list(f"{self._folder}{part}/" if part else self._folder).blobs:
                self._listed[self._relative(blob.name)] = blob
        if name not in self._listed:
            raise FileNotFoundError(errno.ENOENT, "No such object", self.shown(name))
        return self._listed[name]

    def _list(self, folder: str, delimiter: str | None = None) -> _Listing:
        """Everything below a folder or, with a `delimiter`, only what is directly in it."""
        with _as_os_error(self._address):
            found = self._client.list_blobs(
                self._bucket, prefix=folder, delimiter=delimiter, timeout=_TIMEOUT_S
            )
            return _Listing(list(found), list(found.prefixes))

    def _relative(self, name: str) -> str:
        return name[len(self._folder) :]

    def open(self, name: str) -> IO[bytes]:
        shown = self.shown(name)
        blob = self._blob(name)
        if blob is None:
            raise FileNotFoundError(errno.ENOENT, "No such object", shown)
        return io.BufferedReader(_Object(self, blob, shown), _CHUNK_BYTES)

    def _blob(self, name: str) -> Any:
        """None if there is no such object."""
        with _as_os_error(self.shown(name)):
            return self._bucket.get_blob(self._folder + name, timeout=_TIMEOUT_S)

    def shown(self, name: str) -> str:
        return self._address + name


class _Object(io.RawIOBase):
    """An object, as it was when it was opened."""

    def __init__(self, folder: BucketFolder, blob: Any, shown: str) -> None:
        self._folder = folder
        """Kept alive here: its connections are closed when it is garbage-collected."""
        self._blob = blob
        self._shown = shown
        self._at = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._blob.size - self._at)
        if wanted <= 0:
            return 0
        with _as_os_error(self._shown):
            chunk = self._blob.download_as_bytes(
                start=self._at,
                end=self._at + wanted - 1,
                # Cloud Storage has no checksum for part of an object; the records have their own.
                checksum=None,
                raw_download=True,
                if_generation_match=self._blob.generation,
                timeout=_TIMEOUT_S,
            )
        if len(chunk) != wanted:
            said = f"Cloud Storage sent {len(chunk)} of {wanted} bytes"
            raise OSError(errno.EIO, said, self._shown)
        buffer[:wanted] = chunk
        self._at += wanted
        return int(wanted)


def _client(address: str) -> Any:
    try:
        from google.cloud.storage import Client
    except ImportError:
        raise UsageError(
            f"{visible(address)} is in Cloud Storage, which needs an extra package; install it: "
            "pip install 'bulkup[gcs]' (or copy the export: gcloud storage cp -r "
            f"{visible(address.rstrip('/'))} .)"
        ) from None
    from google.auth.exceptions import GoogleAuthError

    try:
        # The project matters only for creating buckets.
        client = Client(project=None)
    except (GoogleAuthError, OSError) as error:
        raise TargetError(
            f"there are no credentials to read {visible(address)}; log in with: "
            "gcloud auth application-default login"
        ) from error
    client._http.hooks["response"].append(_read_refusal)
    return client


def _read_refusal(answer: Any, **_: Any) -> None:
    """Read the answer to a failed download. Google's client does not, which leaves its connection
    open."""
    if answer.status_code >= 400:
        _ = answer.content


@contextmanager
def _as_os_error(shown: str) -> Iterator[None]:
    from google.api_core.exceptions import Forbidden, GoogleAPIError, NotFound, PreconditionFailed
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        yield
    except NotFound as error:
        raise FileNotFoundError(errno.ENOENT, "No such bucket or object", shown) from error
    except PreconditionFailed as error:
        raise OSError(errno.EIO, "it was replaced while it was read", shown) from error
    except Forbidden as error:
        reason = "your account may not read it (it needs roles/storage.objectViewer)"
        raise PermissionError(errno.EACCES, reason, shown) from error
    except (GoogleAPIError, GoogleAuthError, RequestException) as error:
        raise OSError(errno.EIO, _reason(error), shown) from error


def _reason(error: Exception) -> str:
    """The first line of the message from Google's client, which may be pages long."""
    lines = str(getattr(error, "message", "") or error).strip().splitlines()
    return visible(lines[0][:300]) if lines else type(error).__name__
