"""The attribute table: every place of the format, once, written with the kinds."""
