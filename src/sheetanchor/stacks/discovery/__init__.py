"""Looks at a machine and finds what a stack of driver `local` could consist of."""
