"""One module per command: `command` (or `group`) parses, calls `app` and prints; `EPILOG` shows how.

What costs time to import is imported inside the functions: `sheetanchor --help` must be quick.
"""
