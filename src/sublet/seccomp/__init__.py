"""Seccomp profiles: read, compiled to classic BPF, and Sublet's own default. Pure.

* ``default_filter``: the default profile as bytes, ready to install; cheap to import and to call;
* ``sublet.seccomp.profile``: the values of a profile, and the parser of Docker's JSON form;
* ``sublet.seccomp.compiler``: a profile and an architecture make a program;
* ``sublet.seccomp.default_profile``: what the default profile says.

The last three are imported only where a profile of one's own, or an uncommon set of capabilities,
asks for them. Why this is not libseccomp's work: docs/adr/0006-seccomp-writer.md.
"""

from __future__ import annotations

from sublet.seccomp.default import default_filter

__all__ = ["default_filter"]
