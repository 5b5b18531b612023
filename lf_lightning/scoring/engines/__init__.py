"""Engines: how texts reach a scorer, and its scores come back. Each is a generator of parts, as they are done."""
