"""Mount values: attributes, propagation and the operations that build a root. Pure."""
