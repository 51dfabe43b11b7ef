"""How the C library treats memory that is freed."""

from __future__ import annotations

import ctypes
import platform


def keep_freed_memory() -> None:
    """Let glibc keep what is freed, since the next image or step asks for the same again; elsewhere nothing changes.

    By default every map of some megabytes is returned to the system and comes back as fresh pages, to be zeroed one
    fault at a time: elementwise operations on such maps then take several times as long. It holds for the whole process
    and for good, so it is for programs to call, at their start, and not for libraries; ``spd`` commands do.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
    library.mallopt(m_mmap_max, 0)
    library.mallopt(m_trim_threshold, -1)
    library.mallopt(m_top_pad, 64 << 20)
