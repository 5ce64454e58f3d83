"""Configuration files and directories, listed by their absolute paths."""

from sheetanchor.components.configs.component import ConfigsComponent
from sheetanchor.components.configs.proof import ConfigsProof

__all__ = ["ConfigsComponent", "ConfigsProof"]
