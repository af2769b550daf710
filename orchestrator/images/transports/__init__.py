"""Images in archives and directories, in and out (docs/images.md, "Transports")."""
