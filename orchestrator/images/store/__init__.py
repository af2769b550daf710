"""The store of images on this machine: blobs, unpacked layers, image records, names (docs/images.md, "The store")."""
