"""Run as a program (`share.py FOLDER:OPTIONS…`): mount what a pod's containers share in a mount namespace of its own.

Says `ready`, or why not; ends with its standard input. Where the pod shares a pid namespace it is process 1 of it, and
buries the orphans. Only the standard library.
"""

import os
import signal
import sys

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 (no pathlib: this program must start fast)
import become  # type: ignore[import-not-found]
import mounts  # type: ignore[import-not-found]


def main() -> None:
    """See the module's text."""
    become.die_with_parent()
    try:
        mounts.own_namespace()
        for argument in sys.argv[1:]:
            folder, _, options = argument.rpartition(":")
            mounts.mount("tmpfs", folder, "tmpfs", mounts.NOSUID | mounts.NODEV, options)
    except OSError as error:
        os.write(1, f"{error.strerror}\n".encode())
        return
    os.write(1, b"ready\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries
    while os.read(0, 1):
        pass


if __name__ == "__main__":
    main()
