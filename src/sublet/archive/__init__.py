"""Root file system archives: reading tar streams, and unpacking them safely by descriptor.

Our own reader and not ``tarfile``: unpacking a distribution's root file system is on the way of the
first ``sublet run``, and ``tarfile`` alone takes as long to parse the headers as tar takes for
everything.
"""
