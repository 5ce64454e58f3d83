"""Measures Sheetanchor beside stock tools, in one run, on the same data: `./dev bench`."""
