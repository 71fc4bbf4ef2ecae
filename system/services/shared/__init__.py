"""Code that several services share: JSON shapes, read-through caches, cached lists, hosting and consuming."""
