"""Managed exports: the format that `gcloud datastore export` and `gcloud firestore export` write.

    folder.open_export(PATH)       an export: what it promises, and its entities as a stream
    writer.ExportWriter(FOLDER)    write one that Google's import and both emulators read

These names are not imported here, so that importing one of them does not load the others.

    folder.py                      the layout: metadata, output files, promised counts
    source.py    gcs.py            where its files are: a folder, Cloud Storage, or anything else
    writer.py                      the same, written
    metadata.py                    what the metadata lists and promises
    entity_proto.py                the protobuf messages
    decode.py    encode.py         exported entities to entities of the API, and back
    meanings.py  place.py          what both need
    record_log.py                  LevelDB's log format with its checksums
    errors.py                      damage, by file and offset

An export is a folder. `NAME.overall_export_metadata` lists `*.export_metadata` files, which list
`output-N` files. Only what is listed belongs to the export. `*.overall_export_metadata` and
`output-N` are logs of records; each record of an `output-N` is an entity.
"""
