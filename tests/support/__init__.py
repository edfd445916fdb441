"""What the tests stand on: probes, throw-away users, an installed copy, a leak checker."""
