"""A real ext4 in a file: mounted, frozen, cut off as by a power failure. Root only."""

import fcntl
import os
import shutil
import struct
import subprocess

from servers import NOT_INSTALLED, skip

# _IOR('X', 125, __u32) with 2: nothing more goes to the disk, not even the journal.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
FREEZE, THAW = 0xC0045877, 0xC0045878


class Image:
    """Mounted at `folder` while it is used with `with`."""

    def __init__(self, path, folder, megabytes):
        for tool in ("mkfs.ext4", "losetup", "mount"):
            if not shutil.which(tool):
                skip(f"{tool} is not installed", NOT_INSTALLED)
        if os.geteuid() != 0:
            skip("only root may mount an image")
        self.path, self.folder, self.device = path, folder, None
        with open(path, "wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1", path], check=True)
        os.makedirs(folder, exist_ok=True)

    def mount(self):
        made = subprocess.run(["losetup", "-f", "--show", self.path], capture_output=True, text=True)
        if made.returncode != 0:
            skip(f"loop devices are not allowed here: {made.stderr.strip()}")
        self.device = made.stdout.strip()
        made = subprocess.run(["mount", "-t", "ext4", self.device, self.folder], capture_output=True, text=True)
        if made.returncode != 0:
            subprocess.run(["losetup", "-d", self.device])
            skip(f"mounting an image is not allowed here: {made.stderr.strip()}")

    def unmount(self):
        if self.device:
            if subprocess.run(["umount", self.folder], capture_output=True).returncode != 0:
                subprocess.run(["umount", "-l", self.folder], capture_output=True)
            subprocess.run(["losetup", "-d", self.device], capture_output=True)
            self.device = None

    def _control(self, request, argument):
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, request, struct.pack("I", argument))
        finally:
            os.close(descriptor)

    def cut(self):
        """The power fails: what was not synced is gone."""
        self._control(SHUTDOWN, NO_LOG_FLUSH)

    def freeze(self):
        """Whoever writes waits."""
        self._control(FREEZE, 0)

    def thaw(self):
        self._control(THAW, 0)

    def __enter__(self):
        self.mount()
        return self

    def __exit__(self, *_):
        try:
            self.thaw()
        except OSError:
            pass
        self.unmount()
