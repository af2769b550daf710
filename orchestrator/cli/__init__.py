"""The command line: verbs, rendering, exit codes. The only place with `print`, `sys.exit` and `os.environ`.

A verb's module is imported only when the verb is used, and what a verb does not need it does not import: see
tests/unit/test_import_budget.py.
"""
