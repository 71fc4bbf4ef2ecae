"""Breaks the real system on purpose and checks what its users were promised."""
