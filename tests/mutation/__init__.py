"""Trust in the checkers: histories of a perfect system with known verdicts, and mutations that must turn them red."""
