"""Directory trees: captured as they are, restored beside the live tree and swapped by rename."""

from sheetanchor.components.volume.component import VolumeComponent
from sheetanchor.components.volume.proof import VolumeProof

__all__ = ["VolumeComponent", "VolumeProof"]
