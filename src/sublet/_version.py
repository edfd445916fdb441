"""The version: here alone, read by the build, so that no metadata is parsed at run time."""

__version__ = "0.1.0"
