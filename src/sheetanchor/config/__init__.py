"""`sheetanchor.yml`: models, loading, checks."""
