"""About a stack that loads: lint, and the reference that is generated from the table."""
