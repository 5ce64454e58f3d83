"""The embedded demonstration: real servers, real data, a real disaster, a proven recovery."""
