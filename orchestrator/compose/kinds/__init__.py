"""Kinds of values: the language of the attribute table, and what each kind does: check, cast, merge, expand, show."""
