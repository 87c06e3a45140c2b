"""The artifact store: content-addressed, atomic, locked, verified at every read.

Layout of a store folder::

    objects/<key>/   complete artifacts: manifest.json, files.txt (digests, sizes) and the stage's own files
    work/<key>/      unfinished artifacts; a later run resumes from the items or the checkpoint in them
    locks/<key>      one lock per key, held by the process that works on it; the system releases it if the process dies
    locks/run-*      one lock per run in progress: `gc` keeps the artifacts of the run
    runs/<id>.json   the record of a run: recipe, resolved config, keys
    runs/<id>.log    the log of a run: versions, command, log lines, tracebacks
    runs/<id>.html   the report of a run
    store.json       the format of this layout

An object appears by one directory rename, so it is complete or absent. Every file is written under a temporary name,
flushed to the disk and renamed. Content is verified before use: names and keys cannot leave their folder, links are not
followed, and a newer format is refused.
"""
