"""What is written: files, YAML with its places, scalars, variables in text, shell words, ``.env``; and findings."""
