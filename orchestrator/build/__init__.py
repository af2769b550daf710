"""A Dockerfile becomes an image (docs/images.md, "Build")."""
