"""Load a managed export into a new file of the embedded Datastore.

    load.load_export(FILE, SOURCE)   load it; after an interruption, resume

These names are not imported here, so that importing one of them does not load the others.

    load.py          entity by entity, batch by batch; what ends it, and what is kept then
    half_loaded.py   the file beside FILE that is being filled; it becomes FILE when it is whole
    index.py         the index, made at the end
    selection.py     which entities are wanted: kinds, namespaces, a sample
    irregular.py     the index entries of what a commit would refuse
    report.py        what was loaded, and what was not and why
"""
