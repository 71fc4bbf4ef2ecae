"""A graph file for a test."""

from pathlib import Path


def written(content: str | bytes, tmp_path: Path) -> Path:
    """Write `content` to a file whose suffix does not reveal the format; return its path."""
    path = tmp_path / "a.graph"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
