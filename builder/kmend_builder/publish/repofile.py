# SPDX-License-Identifier: GPL-2.0-or-later
"""What a machine needs to know of an RPM repository: a .repo file for dnf. Pure."""

from kmend_builder.errors import UsageError

KEY_FILE = "RPM-GPG-KEY-kmend"
REPO_FILE = "kmend.repo"

# includepkgs: nothing else in this repository is ever a candidate. skip_if_unavailable: a publisher who is down must
# not keep a machine from its distribution's updates.
_TEXT = """\
# Updates for the running kernel. includepkgs limits what may come from here.
[kmend]
name=kmend live patches
baseurl={uri}
enabled=1
type=rpm
gpgcheck=1
repo_gpgcheck=1
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-kmend
includepkgs=kmend kmend-patch-*
metadata_expire=1h
skip_if_unavailable=1
"""


def render_repo_file(uri: str) -> bytes:
    """The .repo file for a repository at `uri`.

    Raises:
        UsageError: no URI, or one that would be more than one line or word.
    """
    if "://" not in uri or not uri.isprintable() or any(char.isspace() for char in uri):
        raise UsageError(f"{uri!r} is no URI", hint="--uri https://kmend.example.org/")
    return _TEXT.format(uri=uri).encode()
