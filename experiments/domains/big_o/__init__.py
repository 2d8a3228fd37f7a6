"""Python functions, asked for their time complexity."""
