"""The plan: values, validation, JSON twin, wire codec, explanation. Pure."""
