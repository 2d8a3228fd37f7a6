"""Largest files that are taken from others, in bytes."""

MAX_BUNDLE_BYTES = 512 * 2**20  # a bundle is megabytes; more is an accident or an attack
MAX_PLAIN_BYTES = 2 * 2**30  # of a bundle's data uncompressed: as its metadata claims, and again as it is read
MAX_REPORT_BYTES = 2**20  # a capability report is a few kilobytes
MAX_LIST_BYTES = 2**30  # the list in a backup has about 200 bytes for each file
