"""How things look: progress (live, plain, json), log lines, tables, failures. Everything that came from a container, a file
or a name passes `escape` on its way to a terminal."""
