"""The artifact store: content-addressed, atomic, locked, verified at every read.

Layout of a store folder::

    objects/<key>/   complete artifacts: manifest.json, files.txt (digests, sizes) and the stage's own files
    work/<key>/      unfinished artifacts; a later run resumes from the items or the checkpoint they hold
    locks/<key>      one lock per key, held by the process that works on it; the system releases it when the process dies
    locks/run-*      one lock per run in progress: `gc` keeps what the run made
    runs/<id>.json   what each run was made of: recipe, resolved config, keys
    store.json       the format of all this
    outputs.txt      what commands wrote outside the store (`wsseg.outputs`)

An object appears by one directory rename, so it is complete or not there. Every file is written under a temporary
name, flushed to the disk and renamed. What is read is checked first: names and keys cannot leave their folder, links are
not followed, and a newer format is refused.
"""
