"""NYU Depth V2, from each of the four forms in which people have it, to a data set with a manifest."""

from spd.data.nyu.importing import LAYOUTS, import_nyu, open_nyu
from spd.data.nyu.source import NyuFrame, NyuSource
from spd.data.nyu.writing import write_nyu

__all__ = ["LAYOUTS", "NyuFrame", "NyuSource", "import_nyu", "open_nyu", "write_nyu"]
