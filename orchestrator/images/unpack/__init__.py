"""Layers: tar streams into trees, trees into tar streams, and what overlayfs would show of some (docs/images.md).

    entries, limits         what an entry of an archive is, and how much of it is accepted
    tarformat, pax, sparse  header blocks, extended headers, maps of sparse files: bytes to values
    reading                 a tar stream as entries
    decode                  a compressed stream as a tar stream: decoder and hasher in threads of their own
    attributes              owner, mode, extended attributes and times of what was made
    lowers, merged          the view of the trees below: with whiteouts, without a mount
    directories, applier    entries into a tree
    layers                  a blob into a tree
    tarwriting, packing     a tree as a tar stream
    compression             a tar stream as a blob

Nothing in here trusts what it reads. Paths of an archive are never given to the kernel as a whole: they are walked name by
name, from a descriptor of the tree's root, with links followed inside the root by ourselves.
"""
