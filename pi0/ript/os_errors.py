"""What to do about an error of the operating system, told by its number and not by where it came from."""

import errno
import re

ELSEWHERE = "or choose another output_dir"
_REMEDIES = {
    errno.ENOSPC: f"free disk space {ELSEWHERE}",
    errno.EDQUOT: f"free some of your disk quota {ELSEWHERE}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f) {ELSEWHERE}",
    errno.EROFS: "the file system is mounted read-only, choose another output_dir",
    errno.EACCES: f"give this account write access there {ELSEWHERE}",
    errno.EPERM: f"give this account write access there {ELSEWHERE}",
    errno.EISDIR: f"move away the folder that is in the way {ELSEWHERE}",
    errno.ENOTDIR: f"move away the file that is in the way {ELSEWHERE}",
    errno.EEXIST: f"move away what is in the way {ELSEWHERE}",
    errno.ENOENT: "somebody has removed or renamed the folder; put it back and resume",
    errno.ENAMETOOLONG: "choose a shorter exp_name or output_dir",
    errno.EIO: f"the disk has an error, see dmesg; copy what is there {ELSEWHERE}",
    errno.ESTALE: "the network file system has lost the folder; mount it again and resume",
}
# What file systems without symbolic links say to one; EPERM is that of FAT and of many network shares.
NO_LINKS = frozenset((errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS))


def error_number(error: BaseException) -> int | None:
    """Return the operating system's number of an error; libraries in Rust have it in their text."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found.group(1)) if found else None


def remedy(error: BaseException) -> str:
    """Return what to do about an error of writing below an ``output_dir``, in a few words."""
    return _REMEDIES.get(error_number(error) or 0, "choose another output_dir")
