"""A model solves problems, with or without memos."""
