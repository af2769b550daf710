"""YAML to a `Project`. The doors are `load` (a stack), `discovery` and `identity` (which files, which project), `queries`
(what ``config`` answers). The floors, each importing only from those below it (tests/architecture.py): text, kinds, schema,
merge, model, advice.
"""
