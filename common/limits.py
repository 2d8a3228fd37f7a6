"""Largest files that are taken from others, in bytes."""

MAX_BUNDLE_BYTES = 512 * 2**20  # a bundle is megabytes; more is an accident or an attack
MAX_PLAIN_BYTES = 768 * 2**20  # of a bundle's data uncompressed; a coordinator with 4 GB of memory can read it
MAX_ATTACHMENT_BYTES = 256 * 2**20  # an adapter of rank 16 for a model of 8 billion parameters has 168 MB
MAX_REPORT_BYTES = 2**20  # a capability report is a few kilobytes
MAX_LIST_BYTES = 2**30  # the list in a backup has about 200 bytes for each file
