"""Exports in Cloud Storage, against a stand-in of its JSON API on this machine."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkup.core.errors import BulkupError, TargetError, UsageError
from bulkup.local.exports import gcs
from bulkup.local.exports.errors import ExportError
from bulkup.local.exports.gcs import BucketFolder
from bulkup.local.importing.load import open_source
from tests.local.exports.bucket import Buckets, serving
from tests.local.exports.folders import few, write


@pytest.fixture
def buckets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buckets]:
    (tmp_path / "mine" / "night" / "sub").mkdir(parents=True)
    for name in ("a.export_metadata", "b", "c d", "x.overall_export_metadata", "sub/output-0"):
        (tmp_path / "mine" / "night" / name).write_bytes(name.encode() * 100)
    (tmp_path / "mine" / "nightly").write_bytes(b"another")
    with serving(tmp_path) as (host, found):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", host)
        yield found
    gc.collect()  # a connection that is left open must fail the test that has opened it


@pytest.mark.parametrize("address", ["gs://mine/night", "gs://mine/night/"])
def test_the_files_of_a_folder_are_named_and_read(buckets: Buckets, address: str) -> None:
    folder = BucketFolder(address)
    assert folder.find(".overall_export_metadata") == ["x.overall_export_metadata"]
    assert folder.size("sub/output-0") == 1200
    with pytest.raises(FileNotFoundError):
        folder.size("sub/output-1")
    with folder.open("sub/output-0") as stream:
        assert stream.read() == b"sub/output-0" * 100
    with folder.open("c d") as stream:
        assert stream.read(5) == b"c dc "
    assert folder.shown("sub/output-0") == "gs://mine/night/sub/output-0"
    assert folder.shown("") == "gs://mine/night/"


def test_an_address_of_a_metadata_file_names_its_folder(buckets: Buckets) -> None:
    folder = BucketFolder("gs://mine/night/x.overall_export_metadata")
    assert folder.find(".overall_export_metadata") == ["x.overall_export_metadata"]
    assert not BucketFolder("gs://mine/night/y.overall_export_metadata").find("metadata")
    with folder.open("b") as stream:
        assert stream.read(1) == b"b"


def test_an_export_is_found_one_folder_down(buckets: Buckets) -> None:
    for name in ("2026-11-28", "2026-11-29"):
        (buckets.root / "mine" / name).mkdir()
        (buckets.root / "mine" / name / "y.overall_export_metadata").touch()
    found = BucketFolder("gs://mine").find(".overall_export_metadata")
    assert found == [
        "2026-11-28/y.overall_export_metadata", "2026-11-29/y.overall_export_metadata",
        "night/x.overall_export_metadata",
    ]  # fmt: skip


def test_a_file_is_read_in_ranges_and_only_as_far_as_needed(
    buckets: Buckets, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gcs, "_CHUNK_BYTES", 1000)
    content = os.urandom(3500)
    (buckets.root / "mine" / "night" / "b").write_bytes(content)
    with BucketFolder("gs://mine/night").open("b") as stream:
        assert stream.read(1500) == content[:1500]
        assert [asked for _, asked in buckets.ranges] == ["bytes=0-999", "bytes=1000-1999"]
        assert stream.read() == content[1500:]
        assert stream.read() == b""
    (buckets.root / "mine" / "night" / "b").write_bytes(b"")
    with BucketFolder("gs://mine/night").open("b") as stream:
        assert stream.read() == b""


@pytest.mark.parametrize("fault", [503, 0])
def test_a_request_that_fails_is_sent_again(buckets: Buckets, fault: int) -> None:
    buckets.statuses = [fault]
    with BucketFolder("gs://mine/night").open("b") as stream:
        assert stream.read() == b"b" * 100
    assert len(buckets.ranges) == 2


def test_a_file_that_is_replaced_meanwhile_is_not_mixed_with_the_new_one(
    buckets: Buckets,
) -> None:
    with BucketFolder("gs://mine/night").open("b") as stream:
        buckets.generation = 2
        with pytest.raises(OSError, match="it was replaced while it was read"):
            stream.read()


def test_a_file_that_was_replaced_before_it_is_read_is_told(buckets: Buckets) -> None:
    write(buckets.root / "mine" / "other", few())
    export = open_source("gs://mine/other")
    assert len(list(export.entities())) == 3
    buckets.generation = 2
    with pytest.raises(ExportError, match="output-0: it was written while the export was read"):
        list(export.entities())


def test_what_is_not_there_or_not_allowed_is_one_sentence(buckets: Buckets) -> None:
    with pytest.raises(FileNotFoundError):
        BucketFolder("gs://mine/night").open("nothing")
    with pytest.raises(BulkupError, match=r"^gs://no/night/ cannot be read \(No such bucket or"):
        open_source("gs://no/night")
    buckets.listing_status = 403
    with pytest.raises(BulkupError, match=r"it needs roles/storage\.objectViewer"):
        open_source("gs://mine/night")
    buckets.listing_status = 400
    with pytest.raises(BulkupError, match=r"^gs://mine/night/ cannot be read \(.*: no\)$"):
        open_source("gs://mine/night")
    with pytest.raises(UsageError, match="write gs://BUCKET/FOLDER"):
        open_source("gs:///night")


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.storage", None)
    with pytest.raises(UsageError) as raised:
        open_source("gs://mine/night/")
    assert raised.value.message == (
        "gs://mine/night/ is in Cloud Storage, which needs an extra package; install it: "
        "pip install 'bulkup[gcs]' (or copy the export: gcloud storage cp -r gs://mine/night .)"
    )


def test_without_credentials_a_sentence_says_how_to_log_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none"))
    with pytest.raises(TargetError, match="log in with: gcloud auth application-default login"):
        open_source("gs://mine/night/")
