"""What the specifications of images say (image-spec 1.1, Docker's manifest v2 schema 2) as values: parsed, checked, made.

Nothing that comes from a registry or an archive is trusted: every parser gives a value or raises OperationError, and what a
value holds has been checked (digests, sizes, media types, text that is UTF-8).
"""
