"""nnst finds a logo in an archive of pictures: what is computed, as arrays and files."""

__version__ = "0.1.0"
